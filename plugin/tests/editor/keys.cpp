#include "keys.h"
#include "editor/errors.h"
#include "editor/fader.h"
#include "editor/late_notice.h"
#include "editor/text.h"
#include "states.h"

namespace stemline::editor {
namespace {

using Key = juce::KeyPress;

juce::Component* find(juce::Component& within, const juce::String& id) {
    for (auto* child : within.getChildren()) {
        if (child->getComponentID() == id)
            return child;
        if (auto* deeper = find(*child, id))
            return deeper;
    }
    return nullptr;
}

Key shifted(int code) { return {code, juce::ModifierKeys::shiftModifier, 0}; }
Key command(int code) { return {code, juce::ModifierKeys::commandModifier, 0}; }

struct Rig {
    explicit Rig(EditorState shown)
        : state(std::move(shown)), actions(state), content(processor.tree, actions, [this] { return state; }) {}

    bool key(const juce::String& id, const Key& pressed) {
        auto* component = find(content, id);
        return component != nullptr && component->keyPressed(pressed);
    }

    PretendProcessor processor;
    EditorState state;
    PretendActions actions;
    EditorContent content;
};

EditorState stateNamed(const juce::String& name) {
    for (auto& named : designStates())
        if (name == named.name)
            return named.state;
    return {};
}

using Expect = std::function<void(bool, const juce::String&)>;

void tryLateBlocks(const Expect& expect) {
    LateNotice notice;
    expect(notice.update(5, 0.0) == 0, "What was late before the editor opened is no news");
    expect(notice.update(8, 1.0) == 3, "Late blocks are spoken of");
    expect(notice.update(9, 15.0) == 4, "And counted on");
    expect(notice.update(9, 34.0) == 4, "For a while");
    expect(notice.update(9, 36.0) == 0, "Until no new one came for long enough");
    expect(notice.update(10, 40.0) == 1, "Then anew");
    notice.dismiss();
    expect(notice.update(10, 40.1) == 0, "Or until somebody has read it");
    expect(notice.update(0, 41.0) == 0, "A stream that begins anew is not late");
    expect(notice.update(2, 42.0) == 2, "Until it is");

    PretendProcessor processor;
    const int last = static_cast<int>(latencyChoicesSeconds.size()) - 1;
    processor.set(ids::latencyChoice, static_cast<float>(last - 1));
    expect(hasLongerLatency(processor.tree), "The last but one choice has a longer one");
    chooseLongerLatency(processor.tree);
    expect(juce::roundToInt(processor.get(ids::latencyChoice)) == last, "Which is chosen");
    expect(!hasLongerLatency(processor.tree), "The last has none");
    chooseLongerLatency(processor.tree);
    expect(juce::roundToInt(processor.get(ids::latencyChoice)) == last, "And stays");

    Rig rig(stateNamed("late"));
    rig.content.refresh();
    dynamic_cast<juce::Button&>(*find(rig.content, "error.retry")).onClick();
    dynamic_cast<juce::Button&>(*find(rig.content, "error.restart")).onClick();
    expect(rig.actions.calls.joinIntoString(",") == "errorButton 0,errorButton 1", "The banner's buttons do");
    rig.state.error.reset();
    rig.content.refresh();
    expect(!find(rig.content, "error")->isVisible(), "A banner goes when there is nothing to say");
}

void tryLiveView(const Expect& expect) {
    Rig rig(stateNamed("live"));
    rig.content.refresh();
    auto view = rig.content.timeView();
    view.zoom(0, 0.5);
    rig.content.setTimeView(view);
    rig.state.playhead += 1;
    rig.content.refresh();
    expect(rig.content.timeView().secondsPerPixel == view.secondsPerPixel, "Live keeps the scale that was chosen");
    expect(rig.content.timeView().first > view.first, "And goes on with the playhead");
    rig.state.playing = false;
    view.scroll(-100);
    rig.content.setTimeView(view);
    rig.content.refresh();
    expect(rig.content.timeView() == view, "While it stands, one can look back");
    rig.state.capturedMode = true;
    rig.content.refresh();
    rig.state.capturedMode = false;
    rig.content.refresh();
    expect(!(rig.content.timeView() == view), "What was chosen for Live ends with it");
}

void tryModels(const Expect& expect) {
    Rig rig(stateNamed("captured"));
    auto& box = dynamic_cast<juce::ComboBox&>(*find(rig.content, "model"));
    rig.content.refresh();
    expect(box.getText() == utf8("Studio · 6 stems"), "The model is called by its title");
    rig.state.model = "grand";
    rig.content.refresh();
    expect(box.getText() == "grand", "A model that the server does not know is called by its name, not by another's");
    box.setSelectedItemIndex(1, juce::sendNotificationSync);
    expect(rig.actions.calls.contains("setModel quick"), "One of the list is chosen");
}

void tryTyping(const Expect& expect) {
    Rig rig(stateNamed("captured"));
    rig.content.refresh();
    rig.content.setVisible(true);
    const auto type = [&rig](const char* text) {
        rig.key("drums.gain", Key(Key::returnKey));
        auto* field = dynamic_cast<juce::TextEditor*>(find(rig.content, "drums.gain.value"));
        if (field == nullptr)
            return false;
        field->setText(text, false);
        field->onReturnKey();
        return find(rig.content, "drums.gain.value") == nullptr;
    };
    expect(type("-6,5 dB"), "Enter on a fader asks for its gain, and Enter takes it");
    expect(std::abs(rig.processor.get("drums_gain_db") + 6.5f) < 1e-4f, "With a comma, with a unit");
    expect(type("loud"), "What is no number");
    expect(std::abs(rig.processor.get("drums_gain_db") + 6.5f) < 1e-4f, "Changes nothing");
    Rig idle(stateNamed("idle"));
    idle.content.refresh();
    idle.key("drums.gain", Key(Key::returnKey));
    expect(find(idle.content, "drums.gain.value") == nullptr, "A fader that is off asks for nothing");
}

void trySettings(const Expect& expect) {
    Rig rig(stateNamed("settings"));
    rig.content.refresh();
    rig.content.openSettings(true);
    auto& address = dynamic_cast<juce::TextEditor&>(*find(rig.content, "set.address"));
    address.setText("studio:1", false);
    dynamic_cast<juce::Button&>(*find(rig.content, "set.test")).onClick();
    expect(rig.actions.tested.address == "studio:1", "What is tested is the address that is typed");
    auto& seed = dynamic_cast<juce::TextEditor&>(*find(rig.content, "set.seed"));
    seed.setText("1234", false);
    seed.onReturnKey();
    expect(rig.processor.get("seed") == 1234.0f, "The seed is the project's");
    rig.processor.set("seed", 5);
    expect(seed.getText() == "5", "And shows what a project brings");
    seed.setText({}, false);
    seed.onReturnKey();
    expect(rig.processor.get("seed") == 5.0f && seed.getText() == "5", "No seed is no other seed");
    rig.state.settings.cacheProblem = "Not taken";
    rig.content.refresh();
    auto& path = dynamic_cast<juce::TextEditor&>(*find(rig.content, "set.cache_path"));
    expect(path.getTooltip().endsWith("Not taken"), "A folder that was not taken says why");
}

} // namespace

juce::StringArray pressKeys() {
    juce::StringArray failures;
    const auto expect = [&failures](bool happened, const juce::String& what) {
        if (!happened)
            failures.add(what);
    };
    tryLateBlocks(expect);
    tryLiveView(expect);
    tryModels(expect);
    tryTyping(expect);
    trySettings(expect);
    Rig rig(stateNamed("captured"));
    auto& [processor, state, actions, content] = rig;

    content.refresh();
    dynamic_cast<juce::Button&>(*find(content, "stale.update")).onClick();
    dynamic_cast<juce::Button&>(*find(content, "capture")).onClick();
    expect(actions.calls.joinIntoString(",") == "updateStale,capture", "Update and Capture are passed on");
    content.keyPressed(Key('1'));
    expect(processor.get("drums_solo") > 0.5f, "1 solos the first lane");
    content.keyPressed(Key('6'));
    expect(processor.get("residual_solo") > 0.5f, "6 solos the sixth lane, whichever stem that is");
    content.keyPressed(shifted('2'));
    expect(processor.get("bass_mute") > 0.5f, "Shift+2 mutes the second lane");
    content.keyPressed(shifted('@'));
    expect(processor.get("bass_mute") < 0.5f, "Shift+2 as the sign it types unmutes it");
    content.keyPressed(Key('0'));
    expect(processor.get("drums_solo") < 0.5f && processor.get("residual_solo") < 0.5f, "0 clears solos");
    expect(!content.keyPressed(Key(Key::spaceKey)), "Space is the host's");
    expect(!content.keyPressed(Key('a')), "Letters are the host's");
    expect(!content.keyPressed(Key('9')), "Numbers without a lane are the host's");

    rig.key("drums.gain", Key(Key::upKey));
    expect(std::abs(processor.get("drums_gain_db") - 0.5f) < 1e-4f, "Up raises a gain by 0.5 dB");
    rig.key("drums.gain", shifted(Key::downKey));
    expect(std::abs(processor.get("drums_gain_db") - 0.4f) < 1e-4f, "Shift+Down lowers it by 0.1 dB");
    expect(find(content, "drums.gain")->getTitle() == "Drums gain, +0.4 decibels", "A fader's name says its gain");
    rig.key("mode", Key(Key::rightKey));
    expect(processor.get("mode") > 0.5f, "Right chooses the next mode");
    rig.key("refiner_steps", Key(Key::leftKey));
    expect(processor.get("refiner_steps") < 0.5f, "Left chooses fewer refiner steps");

    state.canDrag = false;
    content.refresh();
    expect(!content.keyPressed(command('e')), "Ctrl+E is the host's where there is nothing to export");
    content.keyPressed(command(','));
    expect(find(content, "settings_sheet")->isVisible(), "Ctrl+, opens the settings");
    content.keyPressed(Key(Key::escapeKey));
    expect(!find(content, "settings_sheet")->isVisible(), "Esc closes them");

    expect(!content.keyPressed(Key(Key::escapeKey)), "Esc is the host's where there is nothing to cancel");
    state.progress.phase = CapturePhase::recording;
    content.refresh();
    expect(content.keyPressed(Key(Key::escapeKey)) && actions.calls.contains("cancel"), "Esc cancels a capture");
    content.filesDropped({"/tmp/song.wav"}, 10, 10);
    expect(actions.calls.contains("dropFile song.wav"), "A dropped file is captured");
    content.filesDropped({"/tmp/a.wav", "/tmp/b.wav"}, 10, 10);
    expect(find(content, "error")->isVisible(), "Two files at once are refused with a reason");

    state.bouncing = true;
    content.refresh();
    for (const auto* id : {"mode", "model", "refiner_steps", "latency_choice"})
        expect(!find(content, id)->isEnabled(), juce::String(id) + " rests while the host bounces");
    return failures;
}

} // namespace stemline::editor
