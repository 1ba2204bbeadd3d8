#include "engine/stems.h"

#include <array>
#include <cstddef>

namespace stemline {

namespace {
constexpr std::array<const char*, numStems> names{"drums", "bass", "guitar", "piano", "vocals", "other", "residual"};
}

const char* stemName(Stem stem) noexcept { return names[static_cast<std::size_t>(stem)]; }

std::optional<Stem> stemFromName(std::string_view name) noexcept {
    for (std::size_t i = 0; i < names.size(); ++i)
        if (name == names[i])
            return static_cast<Stem>(i);
    return std::nullopt;
}

} // namespace stemline
