// Stretches of the host's timeline.
#pragma once

#include <cstdint>
#include <vector>

namespace stemline::capture {

struct Extent {
    std::int64_t start = 0, stop = 0;
    bool operator==(const Extent&) const = default;
};

/// A set of frames, as sorted extents that neither overlap nor touch. A value; one thread at a time.
class ExtentSet {
  public:
    void add(Extent);
    void add(const ExtentSet&);
    void erase(Extent);

    bool covers(Extent) const noexcept;
    bool touches(Extent) const noexcept;
    const std::vector<Extent>& all() const noexcept { return all_; }

  private:
    std::vector<Extent> all_;
};

} // namespace stemline::capture
