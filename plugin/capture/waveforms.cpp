#include "capture/waveforms.h"

#include <algorithm>

namespace stemline::capture {

void CaptureLibrary::Waveforms::want(std::vector<Wanted> sounds) {
    const std::lock_guard lock(mutex_);
    std::map<std::string, std::shared_ptr<const Waveform>> kept;
    wanted_.clear();
    for (Wanted& sound : sounds) {
        if (sound.file == nullptr)
            continue;
        if (const auto found = made_.find(sound.name); found != made_.end())
            kept.insert(*found);
        else
            wanted_.push_back(std::move(sound));
    }
    made_ = std::move(kept);
}

std::shared_ptr<const Waveform> CaptureLibrary::Waveforms::find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = made_.find(name);
    return found == made_.end() ? nullptr : found->second;
}

void CaptureLibrary::Waveforms::turn() noexcept {
    Wanted sound;
    {
        const std::lock_guard lock(mutex_);
        if (wanted_.empty()) {
            making_ = nullptr;
            return;
        }
        sound = wanted_.front();
    }
    if (making_ == nullptr || name_ != sound.name) {
        making_ = std::make_shared<Waveform>();
        name_ = sound.name;
    }
    const auto frames = static_cast<std::int64_t>(sound.file->size() / sizeof(float)) / sound.channels;
    const std::int64_t first = making_->frames();
    making_->add(sound.file->samples() + first * sound.channels, sound.channels, std::min(frames - first, framesATurn));
    if (making_->frames() < frames)
        return;
    const std::lock_guard lock(mutex_);
    std::erase_if(wanted_, [this](const Wanted& other) { return other.name == name_; });
    made_[name_] = std::move(making_);
}

} // namespace stemline::capture
