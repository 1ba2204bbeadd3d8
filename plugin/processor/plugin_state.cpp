#include "processor/plugin_state.h"
#include <cmath>

namespace stemline {
namespace {

constexpr int currentVersion = 1;
constexpr size_t largestState = 16u << 20;
const juce::String rootTag = "stemline", parameterTag = "parameter", captureTag = "capture";

/** Brings an older state's XML to the current version, one version at a time. Version 1 is the first: nothing to do. A
    newer one is read for what this version knows of it. */
void migrate(juce::XmlElement&, int /*fromVersion*/) {}

void setParameters(ParameterTree& tree, const juce::XmlElement& root) {
    for (auto* parameter : tree.processor.getParameters()) {
        auto* ranged = dynamic_cast<juce::RangedAudioParameter*>(parameter);
        if (ranged == nullptr)
            continue;
        float normalised = ranged->getDefaultValue();
        if (const auto* saved = root.getChildByAttribute("id", ranged->getParameterID())) {
            const double value = saved->getDoubleAttribute("value", std::nan(""));
            const auto& range = ranged->getNormalisableRange();
            if (std::isfinite(value))
                normalised = range.convertTo0to1(
                    range.snapToLegalValue(juce::jlimit(range.start, range.end, static_cast<float>(value))));
        }
        ranged->setValueNotifyingHost(normalised);
    }
}

} // namespace

juce::MemoryBlock saveState(const ParameterTree& tree, const ProjectState& state) {
    juce::XmlElement root(rootTag);
    root.setAttribute("version", currentVersion);
    root.setAttribute("model", state.model);
    root.setAttribute("width", state.editorSize.x);
    root.setAttribute("height", state.editorSize.y);
    for (auto* parameter : tree.processor.getParameters())
        if (const auto* ranged = dynamic_cast<juce::RangedAudioParameter*>(parameter)) {
            auto* saved = root.createNewChildElement(parameterTag);
            saved->setAttribute("id", ranged->getParameterID());
            saved->setAttribute("value", ranged->convertFrom0to1(ranged->getValue()));
        }
    if (!state.capture.isEmpty())
        root.createNewChildElement(captureTag)->addTextElement(state.capture.toBase64Encoding());
    juce::MemoryBlock bytes;
    juce::AudioProcessor::copyXmlToBinary(root, bytes);
    return bytes;
}

std::optional<ProjectState> loadState(ParameterTree& tree, const void* data, size_t size) {
    if (data == nullptr || size == 0 || size > largestState)
        return std::nullopt;
    const auto root = juce::AudioProcessor::getXmlFromBinary(data, static_cast<int>(size));
    if (root == nullptr || !root->hasTagName(rootTag) || root->getIntAttribute("version") < 1)
        return std::nullopt;
    migrate(*root, root->getIntAttribute("version"));
    setParameters(tree, *root);
    ProjectState state;
    state.model = root->getStringAttribute("model").substring(0, 200);
    state.editorSize = {juce::jlimit(720, 1600, root->getIntAttribute("width", 960)),
                        juce::jlimit(460, 1000, root->getIntAttribute("height", 600))};
    if (const auto* capture = root->getChildByName(captureTag))
        state.capture.fromBase64Encoding(capture->getAllSubText());
    return state;
}

} // namespace stemline
