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

FrameRange WireSegments::outstanding() const {
    if (table_.empty())
        return {};
    const Entry& last = table_.back();
    return {last.frame + last.settled, last.sent - last.settled};
}

std::optional<std::int64_t> WireSegments::arrived(std::uint32_t epoch, std::int64_t position, std::int64_t frames,
                                                  std::int64_t consumed) {
    // Epochs come in order: what lies before this one is over.
    while (table_.size() > 1 && table_.front().epoch < epoch)
        table_.pop_front();
    const auto entry = std::find_if(table_.begin(), table_.end(), [&](const Entry& e) { return e.epoch == epoch; });
    if (entry == table_.end() || !entry->holds(position, frames))
        return std::nullopt;
    entry->settled = std::max(entry->settled, position + frames - entry->position);
    // `consumed` counts in the epoch that the server has reached by now; only in the newest one is it sure to be ours.
    if (epoch == table_.back().epoch)
        entry->consumed = std::clamp(consumed - entry->position, entry->consumed, entry->sent);
    return entry->frame + position - entry->position;
}

std::optional<std::int64_t> WireSegments::dropped(std::int64_t position, std::int64_t frames) {
    const auto entry =
        std::find_if(table_.rbegin(), table_.rend(), [&](const Entry& e) { return e.holds(position, frames); });
    if (entry == table_.rend())
        return std::nullopt;
    const std::int64_t end = position + frames - entry->position;
    entry->settled = std::max(entry->settled, end);
    entry->consumed = std::max(entry->consumed, end); // it cannot have dropped what it had not read
    return entry->frame + position - entry->position;
}

} // namespace stemline::client
