#pragma once
// What belongs to the user and this computer, not to a project.

#include "capture/capture_store.h"
#include "client/endpoint.h"
#include <functional>
#include <juce_core/juce_core.h>

namespace stemline {

struct UserSettings {
    bool anotherComputer = false;
    juce::String address, token, tokenFile, caFile;
    bool startAutomatically = true;
    juce::String device; // that the server on this computer is started with: "cpu", "cuda:1"; empty: it chooses
    double cacheCapGb = 20.0;
    juce::String cacheFolder;              // of the store; empty: the default one
    juce::StringArray earlierCacheFolders; // it was in these before
    bool light = false;

    std::uint64_t cacheCapBytes() const { return static_cast<std::uint64_t>(cacheCapGb * 1e9); }
    /** The chosen folder, then all earlier ones and the default. */
    capture::StoreFolders storeFolders() const;
    /** Empty: the default one. The folder until now joins the earlier ones. */
    void setStoreRoot(const juce::String&);

    /** Which server that means. Reads the token file. */
    client::ServerChoice server() const;

    static UserSettings load();
    /** Changes what is in the file, which other editors may have changed since this one read it. False if the file
        cannot be written. */
    static bool change(const std::function<void(UserSettings&)>&);
    /** `plugin.xml` among the user's settings; below STEMLINE_HOME if that is set. */
    static juce::File file();

  private:
    bool save() const;
};

} // namespace stemline
