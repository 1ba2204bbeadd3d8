#include "editor/errors.h"
#include "editor/texts.h"

namespace stemline::editor::errors {
namespace {

const std::string capturedAsBefore = "Captured stems play as before. New audio plays unchanged in the Residual stem.";
const std::string dry = "Your track, unchanged, in the Residual stem.";

std::string kilohertz(double rateHz) { return juce::String(rateHz / 1000).toStdString() + " kHz"; }

/** Of the first, and how many more there are. */
std::string where(const std::vector<TimeRange>& ranges) {
    const auto& first = ranges.front();
    auto text = (first.stop - first.start < 1.0 ? timeText(first.start) : rangeText(first)).toStdString();
    if (ranges.size() > 1)
        text += " and " + std::to_string(ranges.size() - 1) + " more";
    return text;
}

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

EditorError outOfMemory(const std::string& what) {
    return {"Not enough memory",
            what + ".",
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
    return {"Bounce incomplete",
            "The server did not answer in time.",
            rangeText(range).toStdString() + ": your track, unchanged, in the Residual stem.",
            "Bounce again when the server is ready.",
            {"Close"}};
}

EditorError partlyUpdated(const std::vector<TimeRange>& left) {
    return {"Not all is updated",
            where(left) + " changed, but was not played all through.",
            "There: the stems as captured.",
            "Play over it from a moment before, then update again.",
            {"Close"}};
}

EditorError didNotStart(const std::string& why, const std::string& log) {
    const auto lines = juce::StringArray::fromLines(juce::String::fromUTF8(log.c_str()).trimEnd());
    const auto last = lines.isEmpty() ? std::string() : " “" + lines[lines.size() - 1].trim().toStdString() + "”";
    EditorError error = other("The server did not start", why + last);
    error.detail = log;
    return error;
}

EditorError cannotRead(const std::string& file, const std::string& why) {
    return {"Cannot read " + file,
            why.empty() ? "It is not a sound file that can be captured." : why,
            "No change.",
            "Use WAV, FLAC, AIFF or OGG, one at a time.",
            {}};
}

EditorError needsTlsAndToken() {
    return {"Another computer needs TLS and a token", "Nothing was sent to it.", dry, "Add both.", {"Settings"}};
}

EditorError captureLost(const std::vector<TimeRange>& lost, const std::string& folder) {
    return {"Captured sound is missing",
            where(lost) + ": not in " + folder + ", nor where captures were kept before.",
            "There: your track, unchanged, in the Residual stem.",
            "Connect its disk or choose its folder in the settings, or capture it again.",
            {"Settings", "Close"}};
}

EditorError otherRate(double capturedHz, double nowHz) {
    return {"Captured at " + kilohertz(capturedHz),
            "The project runs at " + kilohertz(nowHz) + ", so what was captured cannot play.",
            dry,
            "Set the project back to " + kilohertz(capturedHz) + ", or capture again.",
            {"Close"}};
}

EditorError failed(const std::string& title, const std::string& what) {
    return {title, what, "No change.", "Try again, or look at the settings.", {"Close"}};
}

EditorError other(const std::string& title, const std::string& what) {
    return {title, what, dry, "Try again, or look at the settings.", {"Try now"}};
}

} // namespace stemline::editor::errors
