#pragma once
// A user's hand on the plugin's own editor: clicks, keys, menus, dialogs, drops; and an eye for what it says.

#include <functional>
#include <juce_audio_processors/juce_audio_processors.h>
#include <sstream>

namespace stemline::host {

/** One open editor. What is called waits until the message thread has done it and what follows from it at once. Needs a
   display. Commands, by component ID:

     open · close · click ID [MODIFIERS] · double ID · drag ID PIXELS [MODIFIERS] · wheel ID DELTA [MODIFIERS] ·
     key KEY [on ID] · type ID TEXT · menu ROW · choose ID INDEX · file PATH · drop PATHS.. · see ID · focus ID ·
     shoot FILE.png

   `see` returns what there is to know of a component; the others nothing. Throws std::runtime_error. */
class Hand {
  public:
    using OnMessageThread = std::function<void(std::function<void()>)>;
    explicit Hand(OnMessageThread onMessageThread) : onMessageThread_(std::move(onMessageThread)) {}
    ~Hand() { jassert(editor_ == nullptr); }

    juce::var carryOut(juce::AudioProcessor&, std::istringstream& words);
    void close(juce::AudioProcessor&);

  private:
    void act(const std::string& what, std::istringstream& words);
    juce::Component& find(const juce::String& id);
    juce::var see(const juce::String& id);
    void settle();

    OnMessageThread onMessageThread_;
    std::unique_ptr<juce::AudioProcessorEditor> editor_;
};

} // namespace stemline::host
