#include "hand.h"
#include <chrono>
#include <stdexcept>
#include <thread>

namespace stemline::host {
namespace {

using Words = std::istringstream;

constexpr auto ticks = std::chrono::milliseconds(150); // of the editor's timer, a few

juce::String word(Words& words) {
    std::string text;
    if (!(words >> text))
        throw std::runtime_error("a word is missing");
    return juce::String::fromUTF8(text.c_str());
}

juce::String rest(Words& words) {
    std::string text;
    std::getline(words >> std::ws, text);
    return juce::String::fromUTF8(text.c_str());
}

int modifiersIn(const juce::String& text) {
    return (text.contains("shift") ? juce::ModifierKeys::shiftModifier : 0) |
           (text.contains("ctrl") ? juce::ModifierKeys::ctrlModifier : 0) |
           (text.contains("right") ? juce::ModifierKeys::rightButtonModifier : 0);
}

juce::Component* findIn(juce::Component& within, const juce::String& id) {
    for (auto* child : within.getChildren()) {
        if (child->getComponentID() == id)
            return child;
        if (auto* deeper = findIn(*child, id))
            return deeper;
    }
    return nullptr;
}

template <class Kind> Kind* findKind(juce::Component& within) {
    for (auto* child : within.getChildren()) {
        if (auto* found = dynamic_cast<Kind*>(child))
            return found;
        if (auto* deeper = findKind<Kind>(*child))
            return deeper;
    }
    return nullptr;
}

juce::MouseEvent mouseAt(juce::Component& component, juce::Point<float> at, juce::Point<float> from, int modifiers,
                         int clicks) {
    const bool right = (modifiers & juce::ModifierKeys::rightButtonModifier) != 0;
    const juce::ModifierKeys held(modifiers | (right ? 0 : juce::ModifierKeys::leftButtonModifier));
    const auto now = juce::Time::getCurrentTime();
    return {juce::Desktop::getInstance().getMainMouseSource(),
            at,
            held,
            juce::MouseInputSource::defaultPressure,
            0.0f,
            0.0f,
            0.0f,
            0.0f,
            &component,
            &component,
            now,
            from,
            now,
            clicks,
            at.getDistanceFrom(from) > 4};
}

void click(juce::Component& component, int modifiers, int clicks) {
    const auto centre = component.getLocalBounds().getCentre().toFloat();
    if (auto* button = dynamic_cast<juce::Button*>(&component); button != nullptr && modifiers == 0 && clicks == 1)
        return button->triggerClick();
    const auto event = mouseAt(component, centre, centre, modifiers, clicks);
    const juce::ScopedValueSetter held(juce::ModifierKeys::currentModifiers, event.mods); // buttons ask there
    component.mouseDown(event);
    if (clicks == 2)
        component.mouseDoubleClick(event);
    component.mouseUp(event);
}

void drag(juce::Component& component, float pixels, int modifiers) {
    const auto from = component.getLocalBounds().getCentre().toFloat();
    component.mouseDown(mouseAt(component, from, from, modifiers, 1));
    const auto to = from.translated(pixels, 0);
    component.mouseDrag(mouseAt(component, to, from, modifiers, 1));
    component.mouseUp(mouseAt(component, to, from, modifiers, 1));
}

/** Only what takes the keyboard can be reached by it. */
juce::Component& focused(juce::Component& component) {
    if (!component.getWantsKeyboardFocus() || !component.isShowing())
        throw std::runtime_error("the keyboard does not reach " + component.getComponentID().toStdString());
    component.grabKeyboardFocus();
    return component;
}

/** As JUCE does: to the component and then to those around it. */
void press(juce::Component& target, const juce::KeyPress& key) {
    for (auto* component = &target; component != nullptr; component = component->getParentComponent())
        if (component->keyPressed(key))
            return;
}

/** Of the plugin's own chooser, which JUCE shows where the desktop has none. */
void chooseFile(const juce::File& file) {
    for (int index = 0; index < juce::Desktop::getInstance().getNumComponents(); ++index) {
        auto& window = *juce::Desktop::getInstance().getComponent(index);
        auto* browser = findKind<juce::FileBrowserComponent>(window);
        if (browser == nullptr)
            continue;
        browser->setRoot(file.getParentDirectory());
        browser->setFileName(file.getFileName());
        for (auto* part : browser->getParentComponent()->getChildren())
            if (auto* button = dynamic_cast<juce::TextButton*>(part)) // the first one is OK
                return button->onClick();
    }
    throw std::runtime_error("no file is asked for");
}

void chooseFromMenu(int row) {
    auto* menu = juce::Component::getCurrentlyModalComponent();
    if (menu == nullptr)
        throw std::runtime_error("no menu is open");
    for (int index = 0; index < row; ++index)
        menu->keyPressed(juce::KeyPress(juce::KeyPress::downKey));
    menu->keyPressed(juce::KeyPress(juce::KeyPress::returnKey));
}

} // namespace

juce::Component& Hand::find(const juce::String& id) {
    if (editor_ == nullptr)
        throw std::runtime_error("no editor is open");
    if (auto* found = findIn(*editor_, id))
        return *found;
    throw std::runtime_error("the editor has no " + id.toStdString());
}

void Hand::settle() {
    std::this_thread::sleep_for(ticks);
    onMessageThread_([] {});
}

juce::var Hand::carryOut(juce::AudioProcessor& processor, Words& words) {
    const auto what = word(words);
    if (what == "close") {
        close(processor);
        return {};
    }
    juce::var seen;
    onMessageThread_([&] {
        if (what == "open") {
            editor_.reset(processor.createEditorIfNeeded());
            editor_->addToDesktop(0);
            editor_->setVisible(true);
        } else if (what == "see") {
            seen = see(word(words));
        } else {
            act(what.toStdString(), words);
        }
    });
    settle();
    return seen;
}

void Hand::close(juce::AudioProcessor& processor) {
    if (editor_ != nullptr)
        onMessageThread_([&] {
            processor.editorBeingDeleted(editor_.get());
            editor_.reset();
        });
}

void Hand::act(const std::string& what, Words& words) {
    if (what == "menu")
        return chooseFromMenu(word(words).getIntValue());
    if (what == "file")
        return chooseFile(juce::File::getCurrentWorkingDirectory().getChildFile(rest(words)));
    if (what == "key") {
        const auto text = rest(words);
        const auto key = text.upToFirstOccurrenceOf(" on ", false, false);
        const auto target = text.substring(key.length()).fromFirstOccurrenceOf(" on ", false, false);
        return press(target.isEmpty() ? *editor_->getChildComponent(0) : focused(find(target)),
                     juce::KeyPress::createFromDescription(key));
    }
    if (what == "drop") {
        juce::StringArray files;
        for (std::string path; words >> path;)
            files.add(juce::File::getCurrentWorkingDirectory().getChildFile(path).getFullPathName());
        auto& target = dynamic_cast<juce::FileDragAndDropTarget&>(*editor_->getChildComponent(0));
        if (!target.isInterestedInFileDrag(files))
            throw std::runtime_error("the editor takes no files now");
        return target.filesDropped(files, 10, 10);
    }
    if (what == "shoot") {
        const auto image = editor_->createComponentSnapshot(editor_->getLocalBounds(), true, 1.0f);
        const auto file = juce::File::getCurrentWorkingDirectory().getChildFile(rest(words));
        file.deleteFile();
        juce::FileOutputStream stream(file);
        juce::PNGImageFormat().writeImageToStream(image, stream);
        return;
    }
    auto& component = find(word(words));
    if (what == "click")
        return click(component, modifiersIn(rest(words)), 1);
    if (what == "double")
        return click(component, 0, 2);
    if (what == "focus")
        return component.grabKeyboardFocus();
    if (what == "drag") {
        const float pixels = word(words).getFloatValue();
        return drag(component, pixels, modifiersIn(rest(words)));
    }
    if (what == "wheel") {
        const juce::MouseWheelDetails wheel{0.0f, word(words).getFloatValue(), false, false, false};
        const auto centre = component.getLocalBounds().getCentre().toFloat();
        return component.mouseWheelMove(mouseAt(component, centre, centre, modifiersIn(rest(words)), 0), wheel);
    }
    if (what == "type") {
        auto& field = dynamic_cast<juce::TextEditor&>(component);
        field.setText(rest(words));
        return;
    }
    if (what == "choose")
        return dynamic_cast<juce::ComboBox&>(component).setSelectedItemIndex(word(words).getIntValue(),
                                                                             juce::sendNotificationSync);
    throw std::runtime_error("no hand can " + what);
}

juce::var Hand::see(const juce::String& id) {
    auto& component = find(id);
    juce::DynamicObject::Ptr seen = new juce::DynamicObject();
    seen->setProperty("shown", component.isShowing());
    seen->setProperty("enabled", component.isEnabled());
    seen->setProperty("name", component.getTitle());
    seen->setProperty("focus", component.hasKeyboardFocus(true));
    if (auto* tips = dynamic_cast<juce::TooltipClient*>(&component))
        seen->setProperty("tooltip", tips->getTooltip());
    if (const auto* field = dynamic_cast<juce::TextEditor*>(&component))
        seen->setProperty("text", field->getText());
    if (const auto* box = dynamic_cast<juce::ComboBox*>(&component)) {
        juce::Array<juce::var> items;
        for (int item = 0; item < box->getNumItems(); ++item)
            items.add(box->getItemText(item));
        seen->setProperty("items", items);
        seen->setProperty("text", box->getText());
    }
    if (const auto* button = dynamic_cast<juce::Button*>(&component))
        seen->setProperty("on", button->getToggleState());
    return seen.get();
}

} // namespace stemline::host
