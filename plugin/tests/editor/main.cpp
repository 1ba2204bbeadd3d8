// stemline_editor_shots FOLDER: pictures of every state and where everything is in it. stemline_editor_shots --keys:
// presses keys. Needs a display.

#include "editor/geometry.h"
#include "keys.h"
#include "states.h"
#include <iostream>
#include <set>

namespace stemline::editor {
namespace {

struct Size {
    int width, height;
    float scale;
};

juce::var boxOf(const juce::Component& component, const juce::Component& window) {
    const auto box = window.getLocalArea(&component, component.getLocalBounds());
    return juce::Array<juce::var>{box.getX(), box.getY(), box.getWidth(), box.getHeight()};
}

void describe(const juce::Component& component, const juce::Component& window, juce::DynamicObject& into) {
    for (auto* child : component.getChildren()) {
        if (!child->isVisible())
            continue;
        if (const auto id = child->getComponentID(); id.isNotEmpty()) {
            juce::DynamicObject::Ptr entry = new juce::DynamicObject();
            entry->setProperty("box", boxOf(*child, window));
            entry->setProperty("name", child->getTitle());
            entry->setProperty("enabled", child->isEnabled());
            if (auto* tips = dynamic_cast<juce::TooltipClient*>(child))
                entry->setProperty("tooltip", tips->getTooltip());
            into.setProperty(id, entry.get());
        }
        describe(*child, window, into);
    }
}

/** Component IDs in the order of Tab. */
juce::var tabOrder(juce::Component& content) {
    juce::Array<juce::var> order;
    for (auto* component : juce::KeyboardFocusTraverser().getAllComponents(&content))
        if (component->getComponentID().isNotEmpty())
            order.add(component->getComponentID());
    return order;
}

bool writePng(const juce::Image& image, const juce::File& file) {
    file.deleteFile();
    juce::FileOutputStream stream(file);
    return stream.openedOk() && juce::PNGImageFormat().writeImageToStream(image, stream);
}

/** Of what is in the file, not of what was drawn. */
int distinctColours(const juce::File& file) {
    const auto image = juce::ImageFileFormat::loadFrom(file);
    std::set<juce::uint32> colours;
    for (int y = 0; y < image.getHeight(); ++y)
        for (int x = 0; x < image.getWidth(); ++x)
            colours.insert(image.getPixelAt(x, y).getARGB());
    return static_cast<int>(colours.size());
}

bool shoot(const NamedState& named, Size size, const juce::File& folder) {
    PretendProcessor processor;
    for (const auto& [id, value] : named.parameters)
        processor.set(id, value);
    PretendActions actions(named.state);
    EditorContent content(processor.tree, actions, [&named] { return named.state; });
    content.setSize(size.width, size.height);
    content.openSettings(named.settingsOpen);
    if (named.state.capturedMode) // as in the design
        content.setTimeView({0.0, 75.0 / boxesFor(size.width, size.height, 1, false).ruler.getWidth()});
    content.refresh();

    const auto name = juce::String(named.name) + "-" + juce::String(size.width) + "x" + juce::String(size.height) +
                      (size.scale > 1 ? "@2x" : "");
    juce::DynamicObject::Ptr boxes = new juce::DynamicObject(), all = new juce::DynamicObject();
    describe(content, content, *boxes);
    all->setProperty("components", boxes.get());
    all->setProperty("tab", tabOrder(content));
    const auto picture = content.createComponentSnapshot(content.getLocalBounds(), true, size.scale);
    const auto file = folder.getChildFile(name + ".png");
    if (!writePng(picture, file))
        return false;
    all->setProperty("colours", distinctColours(file));
    all->setProperty("size", juce::Array<juce::var>{picture.getWidth(), picture.getHeight()});
    return folder.getChildFile(name + ".json").replaceWithText(juce::JSON::toString(all.get()));
}

int run(const juce::String& argument) {
    if (argument == "--keys") {
        const auto failures = pressKeys();
        for (const auto& failure : failures)
            std::cerr << "did not happen: " << failure << "\n";
        return failures.isEmpty() ? 0 : 1;
    }
    const auto folder = juce::File::getCurrentWorkingDirectory().getChildFile(argument);
    folder.createDirectory();
    for (const auto& named : designStates())
        for (const Size size : {Size{960, 600, 1}, Size{720, 460, 1}, Size{960, 600, 2}})
            if (!shoot(named, size, folder))
                return 1;
    return 0;
}

} // namespace
} // namespace stemline::editor

int main(int count, char** arguments) {
    if (count != 2) {
        std::cerr << "stemline_editor_shots FOLDER | --keys\n";
        return 2;
    }
    const juce::ScopedJuceInitialiser_GUI gui;
    return stemline::editor::run(juce::String::fromUTF8(arguments[1]));
}
