#include "client/stem_placer.h"

#include <bit>
#include <cstring>

namespace stemline::client {

static_assert(std::endian::native == std::endian::little, "samples travel little-endian and are copied as they are");

StemPlacer::StemPlacer(StemTimeline& timeline, int channels)
    : timeline_(timeline), channels_(static_cast<std::size_t>(channels)) {}

void StemPlacer::announce(const std::vector<std::string>& names) {
    buses_.clear();
    for (const std::string& name : names) {
        const Stem stem = stemFromName(name).value_or(Stem::other);
        buses_.push_back(stem == Stem::residual ? Stem::other : stem); // the residual is for the plugin to make
    }
}

std::optional<StemPlacer::Run> StemPlacer::check(const stems::v1::LiveAudio& audio) const {
    if (audio.stems().empty())
        return std::nullopt;
    const stems::v1::Block& first = audio.stems(0).block();
    for (const stems::v1::StemBlock& stem : audio.stems()) {
        const stems::v1::Block& block = stem.block();
        if (stem.stem_index() >= buses_.size() || block.start_sample() != first.start_sample() ||
            block.num_samples() != first.num_samples() ||
            block.samples().size() != block.num_samples() * channels_ * sizeof(float))
            return std::nullopt;
    }
    return Run{first.start_sample(), static_cast<int>(first.num_samples())};
}

StemTimeline::Written StemPlacer::place(const stems::v1::LiveAudio& audio, std::int64_t frame) {
    const std::size_t frames = audio.stems(0).block().num_samples();
    std::array<const float*, numSeparated * maxChannels> pointers{};
    std::uint32_t mask = 0;
    added_.resize(frames);
    for (const stems::v1::StemBlock& stem : audio.stems()) {
        const auto bus = static_cast<std::size_t>(buses_[stem.stem_index()]);
        const bool second = (mask >> bus & 1) != 0;
        for (std::size_t channel = 0; channel < channels_; ++channel) {
            std::vector<float>& plane = planes_[bus * channels_ + channel];
            plane.resize(frames);
            std::vector<float>& into = second ? added_ : plane;
            std::memcpy(into.data(), stem.block().samples().data() + channel * frames * sizeof(float),
                        frames * sizeof(float));
            for (std::size_t i = 0; second && i < frames; ++i)
                plane[i] += added_[i];
            pointers[bus * channels_ + channel] = plane.data();
        }
        mask |= 1U << bus;
    }
    return timeline_.write(frame, mask, pointers.data(), static_cast<int>(frames));
}

} // namespace stemline::client
