#pragma once
// What belongs to the user and this computer, not to a project.

#include "client/endpoint.h"
#include <juce_core/juce_core.h>

namespace stemline {

struct UserSettings {
    bool anotherComputer = false;
    juce::String address, token, tokenFile, caFile;
    bool startAutomatically = true;
    double cacheCapGb = 20.0;
    bool light = false;

    std::uint64_t cacheCapBytes() const { return static_cast<std::uint64_t>(cacheCapGb * 1e9); }

    /** Which server that means. Reads the token file. */
    client::ServerChoice server() const;

    static UserSettings load();
    /** False if the file cannot be written. */
    bool save() const;
    /** `plugin.xml` among the user's settings; below STEMLINE_HOME if that is set. */
    static juce::File file();
};

} // namespace stemline
