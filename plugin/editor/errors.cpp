#include "editor/errors.h"
#include "editor/texts.h"

namespace stemline::editor::errors {
namespace {

const std::string capturedAsBefore = "Captured stems play as before. New audio plays unchanged in the Residual stem.";
const std::string dry = "Your track, unchanged, in the Residual stem.";

std::string gigabytes(double value) { return juce::String(value, 1).toStdString() + " GB"; }

} // namespace

EditorError serverLost(const std::string& at, const std::string& reason) {
    return {"Server lost",
            "The server stopped answering at " + at + ": " + reason + ".",
            dry + " Other stems are silent. Timing stays the same.",
            "It reconnects by itself. If it keeps failing, restart it.",
            {"Try now", "Restart server"},
            1};
}

EditorError modelMissing(const std::string& model, const std::string& sizeText, MissingWhere where) {
    const std::string server = where == MissingWhere::localServer ? "the server on this computer" : "the server";
    const std::string size = sizeText.empty() ? "" : " (" + sizeText + ")";
    return {"Model “" + model + "” is missing",
            "This project was separated with it, but " + server + " does not have it.",
            capturedAsBefore,
            "Get the model once" + size + ", or choose an installed one: the region is then separated again.",
            {"Get model", "Choose another"}};
}

EditorError gettingModel(const std::string& model, const std::string& doneText, const std::string& totalText) {
    return {"Getting model “" + model + "”",
            doneText + " of " + totalText + ".",
            capturedAsBefore,
            "Nothing: it is used as soon as it is there. What is cancelled goes on from there the next time.",
            {"Cancel"},
            1};
}

EditorError gettingModel(const std::string& model, bool installing) {
    auto error = gettingModel(model, "", "");
    error.what = installing ? "It is checked and installed." : "The server asks where it is.";
    return error;
}

EditorError modelNotGot(const std::string& model, const std::string& reason) {
    return {"Model “" + model + "” did not come",
            reason + ".",
            capturedAsBefore,
            "Try again: what has arrived is kept. Or choose an installed model.",
            {"Try again", "Choose another"}};
}

EditorError outOfMemory(double neededGb, double freeGb) {
    return {"Not enough GPU memory",
            gigabytes(neededGb) + " needed, " + gigabytes(freeGb) + " free.",
            dry,
            "Choose a smaller model or another device.",
            {"Choose model", "Settings"}};
}

EditorError lateBlocks(int count, bool longerExists, bool playing) {
    const auto blocks = std::to_string(count) + (count == 1 ? " block was late" : " blocks were late");
    return {blocks, "The stems came after their time.", "There: your track, unchanged, in the Residual stem.",
            !longerExists ? "Choose a smaller model, or fewer refiner steps."
            : playing     ? "Choose a longer latency. It takes effect when you stop."
                          : "Choose a longer latency.",
            longerExists ? std::vector<std::string>{"Longer latency", "Close"} : std::vector<std::string>{"Close"}};
}

EditorError bounceIncomplete(TimeRange range) {
    const auto where = rangeText(range).toStdString();
    return {"Bounce incomplete",
            "The server did not answer in time.",
            where + ": your track, unchanged, in the Residual stem.",
            "Bounce again when the server is ready.",
            {}};
}

EditorError partlyUpdated(const std::vector<TimeRange>& left) {
    const auto& first = left.front();
    auto where = (first.stop - first.start < 1.0 ? timeText(first.start) : rangeText(first)).toStdString();
    if (left.size() > 1)
        where += " and " + std::to_string(left.size() - 1) + " more";
    return {"Not all is updated",
            where + " changed, but was not played all through.",
            "There: the stems as captured.",
            "Play over it from a moment before, then update again.",
            {"Close"}};
}

EditorError cannotRead(const std::string& file) {
    return {"Cannot read " + file,
            "It is not a sound file that can be captured.",
            "No change.",
            "Use WAV, FLAC, AIFF or OGG, one at a time.",
            {}};
}

EditorError needsTlsAndToken() {
    return {"Another computer needs TLS and a token", "Nothing was sent to it.", dry, "Add both.", {"Settings"}};
}

EditorError other(const std::string& title, const std::string& what) {
    return {title, what, dry, "Try again, or look at the settings.", {"Try now"}};
}

} // namespace stemline::editor::errors
