#include "editor/editor.h"
#include "editor/bottom_bar.h"
#include "editor/error_banner.h"
#include "editor/errors.h"
#include "editor/focus_ring.h"
#include "editor/lane.h"
#include "editor/ruler.h"
#include "editor/settings_sheet.h"
#include "editor/texts.h"
#include "editor/time_overlay.h"
#include "editor/top_bar.h"
#include "editor/welcome.h"

namespace stemline::editor {
namespace {

constexpr int ticksASecond = 30, tooltipDelayMs = 600;
constexpr int ownErrorTicks = 8 * ticksASecond; // how long an error of the editor's own is shown
constexpr float wheelPixels = 240.0f;

bool textIsTyped() {
    return dynamic_cast<juce::TextEditor*>(juce::Component::getCurrentlyFocusedComponent()) != nullptr;
}

/** Which of 0 to 9 a key is, whatever Shift makes of it on this keyboard; else -1. */
int digitOf(const juce::KeyPress& key) {
    const int code = key.getKeyCode();
    if (code >= '0' && code <= '9')
        return code - '0';
    if (!key.getModifiers().isShiftDown())
        return -1;
    static constexpr std::array<int, 7> shifted{'!', '@', '#', '$', '%', '^', '&'};
    for (int digit = 1; digit <= 7; ++digit)
        if (juce::KeyPress::isKeyCurrentlyDown('0' + digit) || code == shifted[static_cast<size_t>(digit - 1)])
            return digit;
    return -1;
}

} // namespace

struct EditorContent::Parts {
    Parts(juce::AudioProcessorValueTreeState& tree, EditorActions& does, std::function<EditorState()> asks)
        : parameters(tree), actions(does), ask(std::move(asks)), topBar(look, does, tree), banner(look),
          ruler(look, does), overlay(look), welcome(look, does), bottomBar(look, does, tree), sheet(look, does, tree),
          ring(look) {
        for (int lane = sourceLane; lane < numStems; ++lane)
            lanes[static_cast<size_t>(lane + 1)] = std::make_unique<Lane>(lane, look, does, tree);
    }

    /** In the order of their rows. */
    std::vector<Lane*> rows() const {
        std::vector<Lane*> result{lanes[0].get()};
        for (size_t stem = 0; stem < numStems; ++stem)
            if (state.stems[stem])
                result.push_back(lanes[stem + 1].get());
        return result;
    }

    bool anySolo() const {
        const auto all = rows();
        return std::any_of(all.begin(), all.end(), [](const Lane* lane) { return lane->header().soloed(); });
    }

    /** What the wheel chose stays: the scale while it plays, the place as well while it stands. */
    void followLive(bool wasCaptured, int width) {
        if (wasCaptured)
            viewChosen = false;
        const double ahead = state.latencySamples / state.sampleRate;
        if (!viewChosen)
            view.followLive(state.playhead, ahead, width);
        else if (state.playing)
            view.keepRight(state.playhead + ahead, width);
    }

    LookAndFeel look;
    juce::AudioProcessorValueTreeState& parameters;
    EditorActions& actions;
    const std::function<EditorState()> ask;
    EditorState state;
    TimeView view;
    bool viewChosen = false; // by the user's wheel, or by what was captured
    Boxes boxes;
    std::optional<EditorError> ownError;
    int ownErrorLeft = 0;
    bool dropping = false;
    juce::String rulerSays; // left of the ruler
    int tick = 0;

    TopBar topBar;
    ErrorBanner banner;
    Ruler ruler;
    juce::Component lanesContent;
    juce::Viewport lanesView;
    std::array<std::unique_ptr<Lane>, numLanes> lanes;
    TimeOverlay overlay;
    Welcome welcome;
    BottomBar bottomBar;
    SettingsSheet sheet;
    FocusRing ring;
    std::unique_ptr<juce::TooltipWindow> tooltips;
    std::unique_ptr<juce::FileChooser> chooser;
};

EditorContent::EditorContent(juce::AudioProcessorValueTreeState& parameters, EditorActions& actions,
                             std::function<EditorState()> ask)
    : parts_(std::make_unique<Parts>(parameters, actions, std::move(ask))) {
    auto& parts = *parts_;
    setLookAndFeel(&parts.look);
    setWantsKeyboardFocus(true);
    setOpaque(true);
    setTitle("Stemline");
    // Tab goes by this order.
    addAndMakeVisible(parts.topBar);
    addChildComponent(parts.banner);
    addAndMakeVisible(parts.ruler);
    addAndMakeVisible(parts.lanesView);
    addAndMakeVisible(parts.overlay);
    addChildComponent(parts.welcome);
    addAndMakeVisible(parts.bottomBar);
    addChildComponent(parts.sheet);
    addChildComponent(parts.ring);
    parts.lanesView.setViewedComponent(&parts.lanesContent, false);
    parts.lanesView.setScrollBarsShown(true, false);
    for (auto& lane : parts.lanes) {
        parts.lanesContent.addChildComponent(*lane);
        lane->header().onAlone = [&parts](int alone) {
            for (auto& other : parts.lanes)
                other->header().setSolo(other->index() == alone);
        };
    }
    parts.banner.onButton = [&parts](int index) { parts.actions.errorButton(index); };
    parts.bottomBar.onSettings = [this, &parts] { openSettings(!parts.sheet.isVisible()); };
    parts.bottomBar.onExport = [&parts] {
        parts.chooser = std::make_unique<juce::FileChooser>(
            "Folder for the stems", juce::File::getSpecialLocation(juce::File::userMusicDirectory));
        const auto choosing = juce::FileBrowserComponent::openMode | juce::FileBrowserComponent::canSelectDirectories;
        parts.chooser->launchAsync(choosing, [&parts](const juce::FileChooser& chooser) {
            if (chooser.getResult() != juce::File())
                parts.actions.exportAll(chooser.getResult());
        });
    };
    parts.topBar.chip().onSettings = [this] { openSettings(true); };
    parts.sheet.onClose = [this] { openSettings(false); };
    parts.tooltips = std::make_unique<juce::TooltipWindow>(this, tooltipDelayMs);
    setSize(defaultWidth, defaultHeight);
    refresh();
    startTimerHz(ticksASecond);
}

EditorContent::~EditorContent() {
    stopTimer();
    setLookAndFeel(nullptr);
}

void EditorContent::refresh() {
    auto& parts = *parts_;
    const auto before = parts.state;
    const bool hadError = parts.boxes.error.has_value();
    parts.state = parts.ask();
    const auto& state = parts.state;
    if (parts.ownErrorLeft > 0 && --parts.ownErrorLeft == 0)
        parts.ownError.reset();
    const auto& error = parts.ownError ? parts.ownError : state.error;
    if (state.settings.light != parts.look.theme.light()) {
        parts.look.setLight(state.settings.light);
        sendLookAndFeelChange();
        repaint();
    }
    if (state.stems != before.stems || error.has_value() != hadError || parts.boxes.lanes.empty())
        resized();

    const int width = parts.boxes.ruler.getWidth();
    if (!parts.viewChosen && state.capturedMode && !state.captured.empty() && state.captured != before.captured)
        parts.view.show({state.captured.front().start, state.captured.back().stop}, width);
    else if (!state.capturedMode && state.sampleRate > 0)
        parts.followLive(before.capturedMode, width);
    else if (state.playing)
        parts.view.follow(state.playhead, width);

    parts.topBar.show(state);
    parts.banner.show(error);
    parts.ruler.show(state, parts.view);
    parts.overlay.show(state, parts.view);
    if (const auto text = rulerText(state); std::exchange(parts.rulerSays, text) != text)
        repaint(0, parts.boxes.ruler.getY(), parts.boxes.ruler.getX(), parts.boxes.ruler.getHeight());
    parts.ring.place();
    const bool anySolo = parts.anySolo();
    const bool redraw = parts.tick++ % 2 == 0; // sound grows at half the rate of playhead and meters
    int number = 0;
    for (auto* lane : parts.rows())
        lane->show(state, parts.view, number++, anySolo, redraw);
    parts.welcome.setVisible(isAsleep(state) && !error);
    parts.bottomBar.show(state);
    if (parts.sheet.isVisible())
        parts.sheet.show(state.settings);
}

void EditorContent::openSettings(bool open) {
    auto& parts = *parts_;
    parts.sheet.show(parts.state.settings);
    parts.sheet.setVisible(open);
    parts.bottomBar.setSettingsOpen(open);
    if (isShowing()) // so that Esc and Tab go where the user looks
        (open ? static_cast<juce::Component*>(&parts.sheet) : this)->grabKeyboardFocus();
    parts.ring.place();
}

void EditorContent::openModelMenu() { parts_->topBar.openModelMenu(); }
void EditorContent::longerLatency() { parts_->bottomBar.longerLatency(); }
const TimeView& EditorContent::timeView() const { return parts_->view; }

void EditorContent::setTimeView(const TimeView& view) {
    parts_->view = view;
    parts_->viewChosen = true;
    refresh();
}

void EditorContent::paint(juce::Graphics& g) {
    const auto& parts = *parts_;
    const auto& theme = parts.look.theme;
    g.fillAll(theme[Token::window]);
    const auto row = parts.boxes.ruler.withTrimmedBottom(2);
    const auto& lane = parts.boxes.lanes.front();
    drawLine(g, parts.rulerSays, row.withLeft(lane.tile.getX()).withRight(row.getX() - 8), font(12), theme[Token::mid]);
    if (!parts.boxes.compact)
        drawLine(g, "Drag out", row.withLeft(lane.cell.getX() - 30).withRight(lane.drag.getRight() + 1), font(12),
                 theme[Token::mid], juce::Justification::right);
}

void EditorContent::paintOverChildren(juce::Graphics& g) {
    const auto& parts = *parts_;
    if (!parts.dropping)
        return;
    const auto lanes = parts.lanesView.getBounds().reduced(parts.boxes.lanes.front().lane.getX(), 0);
    g.setColour(parts.look.theme[Token::focus]);
    g.drawRoundedRectangle(lanes.toFloat().reduced(1), cornerRadius, 2);
    const auto text = lanes.withSizeKeepingCentre(180, 36);
    g.setColour(parts.look.theme[Token::bar]);
    g.fillRoundedRectangle(text.toFloat(), cornerRadius);
    drawLine(g, "Drop to capture", text, font(13, Weight::medium), parts.look.theme[Token::hi],
             juce::Justification::horizontallyCentred);
}

void EditorContent::resized() {
    auto& parts = *parts_;
    const auto rows = parts.rows();
    parts.boxes = boxesFor(getWidth(), getHeight(), static_cast<int>(rows.size()),
                           parts.state.error.has_value() || parts.ownError.has_value());
    const auto& boxes = parts.boxes;
    parts.topBar.setBounds(boxes.topBar);
    parts.topBar.place(boxes);
    parts.banner.place(boxes);
    parts.ruler.setBounds(boxes.ruler);
    parts.lanesView.setBounds(boxes.lanesView);
    parts.lanesContent.setSize(boxes.lanesView.getWidth(), juce::jmax(boxes.lanesHeight, boxes.lanesView.getHeight()));
    for (auto& lane : parts.lanes)
        lane->setVisible(false);
    for (size_t row = 0; row < rows.size(); ++row) {
        rows[row]->setVisible(true);
        rows[row]->setBounds(boxes.lanes[row].lane - boxes.lanesView.getPosition());
        rows[row]->place(boxes.lanes[row], boxes.compact);
    }
    parts.overlay.setBounds(boxes.canvases);
    parts.welcome.place(boxes);
    parts.bottomBar.setBounds(boxes.bottomBar);
    parts.bottomBar.place(boxes);
    parts.sheet.place(boxes);
    parts.ring.place();
}

bool EditorContent::keyPressed(const juce::KeyPress& key) {
    auto& parts = *parts_;
    if (textIsTyped())
        return false;
    const auto modifiers = key.getModifiers();
    if (key == juce::KeyPress(juce::KeyPress::escapeKey)) {
        if (parts.sheet.isVisible())
            openSettings(false);
        else if (parts.state.progress.phase != CapturePhase::idle)
            parts.actions.cancel();
        else
            return false;
        return true;
    }
    if (modifiers.isCommandDown()) {
        if (key.getKeyCode() == ',')
            openSettings(!parts.sheet.isVisible());
        else if (juce::CharacterFunctions::toUpperCase(static_cast<juce::juce_wchar>(key.getKeyCode())) == 'E' &&
                 parts.state.canDrag)
            parts.bottomBar.onExport();
        else
            return false;
        return true;
    }
    const int digit = digitOf(key);
    if (digit < 0 || modifiers.isAltDown() || modifiers.isCtrlDown())
        return false;
    const auto rows = parts.rows();
    if (digit == 0) {
        for (auto& lane : parts.lanes)
            lane->header().setSolo(false);
        return true;
    }
    if (digit >= static_cast<int>(rows.size()))
        return false;
    auto& header = rows[static_cast<size_t>(digit)]->header();
    if (modifiers.isShiftDown())
        header.setMute(!header.muted());
    else
        header.setSolo(!header.soloed());
    return true;
}

void EditorContent::mouseWheelMove(const juce::MouseEvent& event, const juce::MouseWheelDetails& wheel) {
    auto& parts = *parts_;
    const int x = event.getEventRelativeTo(&parts.ruler).x;
    const bool overTime = x >= 0 && x < parts.ruler.getWidth();
    if (!overTime)
        return;
    if (event.mods.isCommandDown())
        parts.view.zoom(x, std::exp(-wheel.deltaY));
    else
        parts.view.scroll(-static_cast<double>(wheelPixels * (wheel.deltaY + wheel.deltaX)));
    parts.viewChosen = true;
    refresh();
}

bool EditorContent::isInterestedInFileDrag(const juce::StringArray& files) {
    return !files.isEmpty() && !parts_->state.bouncing;
}

void EditorContent::fileDragEnter(const juce::StringArray&, int, int) {
    parts_->dropping = true;
    repaint();
}

void EditorContent::fileDragExit(const juce::StringArray&) {
    parts_->dropping = false;
    repaint();
}

void EditorContent::filesDropped(const juce::StringArray& files, int, int) {
    fileDragExit(files);
    const juce::File file(files[0]);
    if (files.size() == 1 && !file.isDirectory())
        return parts_->actions.dropFile(file);
    parts_->ownError = errors::cannotRead(files.size() == 1 ? file.getFileName().toStdString()
                                                            : juce::String(files.size()).toStdString() + " files");
    parts_->ownErrorLeft = ownErrorTicks;
    refresh();
}

} // namespace stemline::editor
