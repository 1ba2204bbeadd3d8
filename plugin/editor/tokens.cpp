#include "editor/tokens.h"
#include <array>
#include <cmath>

namespace stemline::editor {
namespace {

struct Entry {
    const char* name;
    juce::uint32 dark, light;
};

// clang-format off
constexpr std::array<Entry, 34> table{{
    {"window", 0xff111418, 0xffdfe3e9},
    {"bar", 0xff191d23, 0xfff7f8fa},
    {"lane", 0xff161a1f, 0xffffffff},
    {"head", 0xff1e232a, 0xfff0f2f5},
    {"control", 0xff2a313b, 0xffffffff},
    {"hover", 0xff38414d, 0xffeef1f5},
    {"down", 0xff20262e, 0xffd5dbe3},
    {"inset", 0xff101317, 0xffe1e5eb},
    {"line", 0xff2b323c, 0xffcdd3db},
    {"grid", 0xff20262e, 0xffe9ecf1},
    {"edge", 0xff697585, 0xff6f7a89},
    {"hi", 0xffeef2f7, 0xff14181d},
    {"mid", 0xffb7c1ce, 0xff465160},
    {"dim", 0xff929dac, 0xff5a6573},
    {"off", 0xff6b7685, 0xff8a94a2},
    {"on", 0xffe4eaf2, 0xff242b35},
    {"ink", 0xff12161b, 0xffffffff},
    {"focus", 0xff7cc0ff, 0xff0b62c4},
    {"ok", 0xff4ccb8f, 0xff12764a},
    {"warn", 0xfff5c556, 0xff8a5a00},
    {"err", 0xffff857a, 0xffb3261e},
    {"solo", 0xfff5da55, 0xff7d6400},
    {"mute", 0xffff978c, 0xffb3261e},
    {"ahead", 0xff1d232b, 0xffe6eef8},
    {"errbg", 0xff2a1d20, 0xfffcedeb},
    {"warnbg", 0xff3a2f14, 0xfffff4dc},
    {"drums", 0xffd27526, 0xffb43000},
    {"bass", 0xff2d8cfd, 0xff0e80f2},
    {"guitar", 0xff24c37e, 0xff136f60},
    {"piano", 0xfff4da55, 0xffa38c04},
    {"vocals", 0xffff9dbd, 0xfff030aa},
    {"other", 0xff9eb2ff, 0xff4f2cae},
    {"residual", 0xffd7e3f2, 0xff2a2f33},
    {"source", 0xff8e9aaa, 0xff7c8795},
}};
// clang-format on

double luminance(juce::Colour colour) {
    const auto linear = [](float value) {
        const double v = value;
        return v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
    };
    return 0.2126 * linear(colour.getFloatRed()) + 0.7152 * linear(colour.getFloatGreen()) +
           0.0722 * linear(colour.getFloatBlue());
}

} // namespace

juce::Colour Theme::operator[](Token token) const {
    const auto& entry = table[static_cast<size_t>(token)];
    return juce::Colour(light_ ? entry.light : entry.dark);
}

juce::Colour Theme::lane(int lane) const {
    if (lane < 0)
        return (*this)[Token::source];
    return (*this)[static_cast<Token>(static_cast<int>(Token::drums) + lane)];
}

juce::Colour Theme::onLane(int index) const {
    const auto ink = (*this)[Token::ink];
    return contrast(ink, lane(index)) >= 4.5 ? ink : (*this)[Token::hi];
}

const char* tokenName(Token token) { return table[static_cast<size_t>(token)].name; }

double contrast(juce::Colour a, juce::Colour b) {
    const double la = luminance(a), lb = luminance(b);
    return (std::max(la, lb) + 0.05) / (std::min(la, lb) + 0.05);
}

} // namespace stemline::editor
