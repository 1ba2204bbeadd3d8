#pragma once
// Every colour of the editor, dark and light. Stems have colour, controls are neutral.

#include "engine/stems.h"
#include <juce_graphics/juce_graphics.h>

namespace stemline::editor {

enum class Token {
    window,
    bar,
    lane,
    head,
    control,
    hover,
    down,
    inset,
    line,
    grid,
    edge,
    hi,
    mid,
    dim,
    off,
    on,
    ink,
    focus,
    ok,
    warn,
    err,
    solo,
    mute,
    ahead,
    errbg,
    warnbg,
    drums,
    bass,
    guitar,
    piano,
    vocals,
    other,
    residual,
    source
};

/** A theme: a table of colours. A value; the message thread's. */
class Theme {
  public:
    explicit Theme(bool light = false) : light_(light) {}

    bool light() const { return light_; }
    juce::Colour operator[](Token) const;
    /** Of a stem's index, or of the source (-1). */
    juce::Colour lane(int lane) const;
    /** `ink` where it can be read on the lane's colour (4.5:1), else `hi`. */
    juce::Colour onLane(int lane) const;

  private:
    bool light_;
};

const char* tokenName(Token);

/** WCAG 2's contrast ratio, 1 to 21. */
double contrast(juce::Colour, juce::Colour);

} // namespace stemline::editor
