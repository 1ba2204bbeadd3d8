#include "editor/bottom_bar.h"
#include "editor/texts.h"

namespace stemline::editor {

BottomBar::Label::Label(const juce::String& id, const LookAndFeel& look, Strong strong) : look_(look), strong_(strong) {
    setComponentID(id);
}

void BottomBar::Label::show(const juce::String& upper, const juce::String& lower, Token strong) {
    if (upper == upper_ && lower == lower_ && strong == colour_)
        return;
    upper_ = upper;
    lower_ = lower;
    colour_ = strong;
    repaint();
}

void BottomBar::Label::paint(juce::Graphics& g) {
    const auto strong = strong_ == Strong::upper ? font(13, Weight::medium) : font(12, Weight::medium);
    const auto line = [&](const juce::String& text, int y, bool isStrong) {
        drawLine(g, text, Box(0, y, getWidth(), 16), isStrong ? strong : font(12),
                 look_.theme[isStrong ? colour_ : Token::mid]);
    };
    line(upper_, 0, strong_ == Strong::upper);
    line(lower_, 17, strong_ == Strong::lower);
}

BottomBar::ProgressBar::ProgressBar(const LookAndFeel& look) : look_(look) { setComponentID("progress"); }

void BottomBar::ProgressBar::show(const Progress& progress) {
    progress_ = progress;
    const auto text = progressText(progress);
    setTitle(text);
    repaint();
    const int tenth = progress.phase == CapturePhase::separating ? static_cast<int>(progress.fraction * 10) : -1;
    if (tenth > announced_)
        juce::AccessibilityHandler::postAnnouncement(text, juce::AccessibilityHandler::AnnouncementPriority::low);
    announced_ = tenth;
}

void BottomBar::ProgressBar::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    const auto area = getLocalBounds().toFloat();
    const auto line = area.withHeight(16);
    const auto rest = progressRest(progress_);
    drawLine(g, rest, line, font(12), theme[Token::mid], juce::Justification::right);
    drawLine(g, progressText(progress_), line.withTrimmedRight(widthOf(rest, font(12)) + 8), font(12, Weight::medium),
             theme[Token::hi]);
    if (progress_.phase == CapturePhase::idle)
        return;
    const auto track = area.withTop(21).withHeight(6);
    g.setColour(theme[Token::inset]);
    g.fillRoundedRectangle(track, 3);
    g.setColour(theme[Token::edge]);
    g.drawRoundedRectangle(track.reduced(0.5f), 2.5f, 1);
    g.setColour(theme[Token::on]);
    const auto done = static_cast<float>(juce::jlimit(0.0, 1.0, progress_.fraction));
    g.fillRoundedRectangle(track.withWidth(track.getWidth() * done), 3);
}

BottomBar::BottomBar(const LookAndFeel& look, EditorActions& actions, juce::AudioProcessorValueTreeState& parameters)
    : look_(look), latencyParameter_(*parameters.getParameter("latency_choice")),
      latency_("latency_choice", look, latencyParameter_), text_("latency_text", look, Label::Strong::upper),
      late_("late_blocks", look, Label::Strong::lower), progress_(look),
      mainOutput_("main_output", look, *parameters.getParameter("main_output")), capture_("capture", "Capture", look),
      export_("export_all", "Export all", look), settings_("settings", "Settings", look) {
    latency_.setTitle("Live latency");
    latency_.label = "Latency";
    latency_.onShow = [this] { return captured_ ? juce::String("0 s") : latencyParameter_.getCurrentValueAsText(); };
    late_.setTooltip("Blocks that came too late; your track was heard instead.");
    mainOutput_.setTitle("Main output");
    mainOutput_.label = "Main";
    mainOutput_.setTooltip("What the Main output carries");
    export_.setTitle("Export all stems");
    export_.setIcon(exportIcon());
    settings_.setIcon(gearIcon());
    settings_.setShown({}, true);
    settings_.setTooltip("Settings (Ctrl/Cmd+,)");
    capture_.onClick = [this, &actions] { cancels_ ? actions.cancel() : actions.capture(); };
    export_.onClick = [this] { onExport(); };
    settings_.onClick = [this] { onSettings(); };
    for (juce::Component* child :
         {static_cast<juce::Component*>(&latency_), static_cast<juce::Component*>(&text_),
          static_cast<juce::Component*>(&late_), static_cast<juce::Component*>(&progress_),
          static_cast<juce::Component*>(&mainOutput_), static_cast<juce::Component*>(&capture_),
          static_cast<juce::Component*>(&export_), static_cast<juce::Component*>(&settings_)})
        addAndMakeVisible(child);
    progress_.setVisible(false);
}

void BottomBar::place(const Boxes& boxes) {
    boxes_ = boxes;
    const auto move = [&boxes](Box box) { return box - boxes.bottomBar.getPosition(); };
    latency_.setBounds(move(boxes.latency));
    text_.setBounds(move(boxes.text));
    late_.setBounds(move(boxes.late));
    progress_.setBounds(move(boxes.progress));
    mainOutput_.setBounds(move(boxes.mainOutput));
    capture_.setBounds(move(boxes.capture));
    export_.setBounds(move(boxes.exportAll));
    export_.setShown("Export all", boxes.compact);
    settings_.setBounds(move(boxes.settings));
}

void BottomBar::nameLatencies(const EditorState& state) {
    const int chosen = latency_.getSelectedItemIndex();
    if (rate_ == state.sampleRate && namedChoice_ == chosen && namedParts_ == state.latencyText)
        return;
    rate_ = state.sampleRate;
    namedChoice_ = chosen;
    namedParts_ = state.latencyText;
    const auto choices = latencyParameter_.getAllValueStrings();
    for (int choice = 0; choice < choices.size(); ++choice) {
        auto text = latencyChoiceText(choices[choice], state);
        if (choice == chosen && !state.capturedMode && !namedParts_.empty())
            text += utf8(" · " + namedParts_); // of the others only the server would know
        latency_.changeItemText(choice + 1, text);
    }
}

void BottomBar::show(const EditorState& state) {
    nameLatencies(state);
    if (std::exchange(captured_, state.capturedMode) != state.capturedMode)
        latency_.repaint();
    latency_.setEnabled(!state.capturedMode && !state.bouncing);
    latency_.setTooltip(state.capturedMode ? "Captured stems have no latency" : "Live latency");
    const bool busy = state.progress.phase != CapturePhase::idle || state.progress.cancelled;
    if (busy != progress_.isVisible())
        repaint();
    text_.setVisible(!busy);
    late_.setVisible(!busy);
    progress_.setVisible(busy);
    if (busy)
        progress_.show(state.progress);
    text_.show(latencyTitle(state), latencyParts(state, boxes_.compact), Token::hi);
    text_.setTooltip(latencyParts(state, boxes_.compact));
    late_.show(boxes_.compact ? "Late" : "Late blocks", juce::String(state.lateBlocks),
               state.lateBlocks > 0 ? Token::warn : Token::hi);
    late_.setTitle("Late blocks, " + juce::String(state.lateBlocks));

    cancels_ = state.progress.phase != CapturePhase::idle;
    const auto percent = juce::String(juce::roundToInt(state.progress.fraction * 100));
    capture_.setShown(cancels_ ? "Cancel" : "Capture", false);
    capture_.setTitle(cancels_ ? "Cancel, " + percent + " percent" : juce::String("Capture"));
    capture_.setTooltip(cancels_ ? "Cancel (Esc)" : "Capture a region by playing it");
    capture_.setEnabled(cancels_ || (!state.bouncing && !isAsleep(state)));
    export_.setEnabled(state.canDrag);
    export_.setTooltip(state.canDrag ? "Export all stems (Ctrl/Cmd+E)" : "Capture a region first.");
    for (int stem = 0; stem < numStems; ++stem)
        mainOutput_.setItemEnabled(stem + 2, state.stems[static_cast<size_t>(stem)]);
}

void BottomBar::longerLatency() {
    latency_.setSelectedItemIndex(juce::jmin(latency_.getNumItems() - 1, latency_.getSelectedItemIndex() + 1));
}

void BottomBar::paint(juce::Graphics& g) {
    g.fillAll(look_.theme[Token::bar]);
    g.setColour(look_.theme[Token::line]);
    g.fillRect(0, 0, getWidth(), 1);
    if (!progress_.isVisible())
        g.fillRect(late_.getX() - 13, late_.getY(), 1, late_.getHeight());
}

} // namespace stemline::editor
