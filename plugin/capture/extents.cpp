#include "capture/extents.h"

#include <algorithm>

namespace stemline::capture {

void ExtentSet::add(Extent added) {
    if (added.start >= added.stop)
        return;
    const auto first = std::partition_point(all_.begin(), all_.end(),
                                            [added](const Extent& extent) { return extent.stop < added.start; });
    const auto last =
        std::partition_point(first, all_.end(), [added](const Extent& extent) { return extent.start <= added.stop; });
    if (first != last)
        added = {std::min(first->start, added.start), std::max(std::prev(last)->stop, added.stop)};
    all_.insert(all_.erase(first, last), added);
}

void ExtentSet::add(const ExtentSet& others) {
    for (const Extent& extent : others.all_)
        add(extent);
}

void ExtentSet::erase(Extent gone) {
    std::vector<Extent> kept;
    for (const Extent& extent : all_) {
        if (extent.start < std::min(extent.stop, gone.start))
            kept.push_back({extent.start, std::min(extent.stop, gone.start)});
        if (std::max(extent.start, gone.stop) < extent.stop)
            kept.push_back({std::max(extent.start, gone.stop), extent.stop});
    }
    all_ = std::move(kept);
}

bool ExtentSet::covers(Extent wanted) const noexcept {
    return std::any_of(all_.begin(), all_.end(), [wanted](const Extent& extent) {
        return extent.start <= wanted.start && extent.stop >= wanted.stop;
    });
}

bool ExtentSet::touches(Extent wanted) const noexcept {
    return std::any_of(all_.begin(), all_.end(), [wanted](const Extent& extent) {
        return extent.start < wanted.stop && extent.stop > wanted.start;
    });
}

} // namespace stemline::capture
