#include "processor/plugin_processor.h"
namespace stemline {
juce::AudioProcessorEditor* PluginProcessor::createEditor() { return new juce::GenericAudioProcessorEditor(*this); }
}
