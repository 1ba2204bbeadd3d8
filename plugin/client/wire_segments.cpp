#include "client/wire_segments.h"

#include <algorithm>

namespace stemline::client {

void WireSegments::begin(std::int64_t frame, std::int64_t position) {
    Entry entry;
    entry.epoch = table_.empty() ? 0 : table_.back().epoch + 1;
    entry.frame = frame;
    entry.position = position;
    table_.push_back(entry);
}

std::int64_t WireSegments::inFlight() const { return table_.empty() ? 0 : table_.back().sent - table_.back().consumed; }

std::vector<FrameRange> WireSegments::outstanding() const {
    std::vector<FrameRange> ranges;
    for (const Entry& entry : table_)
        if (entry.sent > entry.settled)
            ranges.push_back({entry.frame + entry.settled, entry.sent - entry.settled});
    return ranges;
}

WireSegments::Entry* WireSegments::find(std::uint32_t epoch, std::int64_t position, std::int64_t frames) {
    // All of a segment comes before anything of the next: what lies before this epoch is over.
    while (table_.size() > 1 && table_.front().epoch < epoch)
        table_.pop_front();
    const auto entry = std::find_if(table_.begin(), table_.end(), [&](const Entry& e) { return e.epoch == epoch; });
    return entry != table_.end() && entry->holds(position, frames) ? &*entry : nullptr;
}

std::optional<std::int64_t> WireSegments::arrived(std::uint32_t epoch, std::int64_t position, std::int64_t frames,
                                                  std::int64_t consumed) {
    Entry* entry = find(epoch, position, frames);
    if (entry == nullptr)
        return std::nullopt;
    entry->settled = std::max(entry->settled, position + frames - entry->position);
    entry->consumed = std::clamp(consumed - entry->position, entry->consumed, entry->sent);
    return entry->frame + position - entry->position;
}

std::optional<std::int64_t> WireSegments::dropped(std::uint32_t epoch, std::int64_t position, std::int64_t frames) {
    Entry* entry = find(epoch, position, frames);
    if (entry == nullptr)
        return std::nullopt;
    const std::int64_t end = position + frames - entry->position;
    entry->settled = std::max(entry->settled, end);
    entry->consumed = std::max(entry->consumed, end); // it cannot have dropped what it had not read
    return entry->frame + position - entry->position;
}

} // namespace stemline::client
