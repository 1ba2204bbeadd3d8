// From a message with stems to the timeline.
#pragma once

#include "engine/stem_timeline.h"
#include "engine/stems.h"
#include "stems/v1/live.pb.h"

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace stemline::client {

/// Puts the server's stems, which come in the model's order, where the buses want them. Worker thread.
class StemPlacer {
  public:
    StemPlacer(StemTimeline& timeline, int channels);

    /// The model's stems in its own order. One that has no bus is added to `other`, so that nothing is lost.
    void announce(const std::vector<std::string>& names);

    struct Run {
        std::int64_t position = 0;
        int frames = 0;
    };
    /// Where the stems of a message lie; absent if it is not what a server of this contract sends.
    std::optional<Run> check(const stems::v1::LiveAudio&) const;

    /// Places a message that `check` has passed.
    StemTimeline::Written place(const stems::v1::LiveAudio&, std::int64_t frame);

  private:
    StemTimeline& timeline_;
    std::size_t channels_;
    std::vector<Stem> buses_; // by the server's stem index
    std::array<std::vector<float>, numSeparated * maxChannels> planes_;
    std::vector<float> added_;
};

} // namespace stemline::client
