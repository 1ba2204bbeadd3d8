#include "processor/plugin_processor.h"

// What every wrapper (VST3, LV2, AU, Standalone) asks for.
juce::AudioProcessor* JUCE_CALLTYPE createPluginFilter() { return new stemline::PluginProcessor(); }
