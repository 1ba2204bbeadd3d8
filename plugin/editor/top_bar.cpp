#include "editor/top_bar.h"
#include "editor/texts.h"

namespace stemline::editor {

TopBar::ModelBox::ModelBox(const LookAndFeel& look, EditorActions& actions)
    : DropDown("model", look), actions_(actions) {
    setTitle("Model");
    onChange = [this] {
        const int index = getSelectedItemIndex();
        if (index >= 0 && index < static_cast<int>(names_.size()))
            actions_.setModel(names_[static_cast<size_t>(index)]);
    };
}

void TopBar::ModelBox::show(const EditorState& state) {
    juce::String listed;
    for (const auto& model : state.models)
        listed << utf8(model.name) << "\n" << utf8(model.title) << "\n" << (model.missing ? "missing\n" : "\n");
    if (listed != listed_) {
        listed_ = listed;
        names_.clear();
        clear(juce::dontSendNotification);
        int id = 1;
        for (const auto& model : state.models) {
            names_.push_back(model.name);
            addItem(utf8(model.title) + (model.missing ? utf8(" · ") + "missing" : juce::String()), id++);
        }
    }
    const auto found = std::find(names_.begin(), names_.end(), state.model);
    if (found == names_.end())
        setText(utf8(state.model), juce::dontSendNotification); // the server does not know it, or was not asked yet
    else
        setSelectedItemIndex(static_cast<int>(found - names_.begin()), juce::dontSendNotification);
    setTooltip("Model: " + getText());
}

TopBar::TopBar(const LookAndFeel& look, EditorActions& actions, juce::AudioProcessorValueTreeState& parameters)
    : look_(look), mode_("mode", look, *parameters.getParameter("mode")), model_(look, actions),
      refiner_("refiner_steps", look, *parameters.getParameter("refiner_steps")), chip_(look, actions) {
    mode_.setTitle("Mode");
    mode_.setTooltip("Live: stems of what plays, later by the latency. Captured: stems of a region, without latency");
    refiner_.setTitle("Refiner steps");
    refiner_.setTooltip("Refiner steps: more are better and slower");
    for (juce::Component* child : {static_cast<juce::Component*>(&mode_), static_cast<juce::Component*>(&model_),
                                   static_cast<juce::Component*>(&refiner_), static_cast<juce::Component*>(&chip_)})
        addAndMakeVisible(child);
}

void TopBar::place(const Boxes& boxes) {
    boxes_ = boxes;
    mode_.setBounds(boxes.mode);
    model_.setBounds(boxes.model);
    model_.label = boxes.compact ? "" : "Model";
    refiner_.setBounds(boxes.refiner);
    chip_.setBounds(boxes.chip);
}

void TopBar::show(const EditorState& state) {
    model_.show(state);
    chip_.show(state.server);
    for (juce::Component* restarting : {static_cast<juce::Component*>(&mode_), static_cast<juce::Component*>(&model_),
                                        static_cast<juce::Component*>(&refiner_)})
        restarting->setEnabled(!state.bouncing && (restarting == &mode_ || !isAsleep(state)));
}

void TopBar::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    g.fillAll(theme[Token::bar]);
    g.setColour(theme[Token::line]);
    g.fillRect(0, getHeight() - 1, getWidth(), 1);
    const auto logo = boxes_.logo.toFloat();
    const float left = logo.getX() - 1, middle = logo.getCentreY();
    juce::Path mark; // one line becomes three
    mark.startNewSubPath(left, middle);
    mark.lineTo(left + 25, middle);
    for (const float side : {-1.0f, 1.0f}) {
        mark.startNewSubPath(left + 8, middle);
        mark.quadraticTo(left + 12, middle, left + 14, middle + 4 * side);
        mark.quadraticTo(left + 16, middle + 8 * side, left + 20, middle + 8 * side);
        mark.lineTo(left + 25, middle + 8 * side);
    }
    g.setColour(theme[Token::hi]);
    g.strokePath(mark, juce::PathStrokeType(2, juce::PathStrokeType::curved, juce::PathStrokeType::rounded));
    if (!boxes_.compact)
        drawLine(g, "Stemline", logo.withLeft(logo.getX() + 30).withWidth(80), font(16, Weight::medium),
                 theme[Token::hi]);
    drawLine(g, "Refiner", boxes_.refinerLabel, font(12), theme[refiner_.isEnabled() ? Token::mid : Token::off]);
}

} // namespace stemline::editor
