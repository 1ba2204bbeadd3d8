#include "editor/focus_ring.h"
#include "editor/controls.h"

namespace stemline::editor {

FocusRing::FocusRing(const LookAndFeel& look) : look_(look) {
    setInterceptsMouseClicks(false, false);
    setAccessible(false);
    juce::Desktop::getInstance().addFocusChangeListener(this);
}

FocusRing::~FocusRing() { juce::Desktop::getInstance().removeFocusChangeListener(this); }

/** Where lanes or settings have less room than they need. */
void FocusRing::bringIntoView(juce::Component& focused) {
    auto* view = focused.findParentComponentOfClass<juce::Viewport>();
    if (view == nullptr || !view->getViewedComponent()->isParentOf(&focused))
        return;
    constexpr int margin = 8;
    const auto box = view->getViewedComponent()->getLocalArea(&focused, focused.getLocalBounds()).expanded(0, margin);
    const auto seen = view->getViewArea();
    if (box.getY() < seen.getY())
        view->setViewPosition(seen.getX(), juce::jmax(0, box.getY()));
    else if (box.getBottom() > seen.getBottom())
        view->setViewPosition(seen.getX(), box.getBottom() - seen.getHeight());
}

void FocusRing::place() {
    auto* parent = getParentComponent();
    auto* focused = juce::Component::getCurrentlyFocusedComponent();
    if (std::exchange(last_, focused) != focused && parent != nullptr && focused != nullptr &&
        parent->isParentOf(focused))
        bringIntoView(*focused);
    const bool shown = parent != nullptr && focused != nullptr && parent->isParentOf(focused) &&
                       dynamic_cast<juce::TextEditor*>(focused) == nullptr &&
                       focused->getComponentID() != "settings_sheet"; // that one has a caret and its own outline
    setVisible(shown);
    if (!shown)
        return;
    const auto* special = dynamic_cast<const FocusBox*>(focused);
    const auto box = special != nullptr ? special->focusBox() : focused->getLocalBounds();
    setBounds(parent->getLocalArea(focused, box).expanded(3));
}

void FocusRing::paint(juce::Graphics& g) {
    g.setColour(look_.theme[Token::focus]);
    g.drawRoundedRectangle(getLocalBounds().toFloat().reduced(1), cornerRadius + 2, 2);
}

} // namespace stemline::editor
