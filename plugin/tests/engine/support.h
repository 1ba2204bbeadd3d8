#pragma once

#include "engine/stems.h"

#include <cstdint>
#include <initializer_list>
#include <random>
#include <vector>

namespace stemline::test {

/// How often this thread has called operator new so far.
std::int64_t allocationsOfThisThread() noexcept;

/// Samples as the engine takes them: an array of pointers to planes.
class Planes {
  public:
    Planes(int planes, int frames)
        : samples_(static_cast<std::size_t>(planes), std::vector<float>(static_cast<std::size_t>(frames))) {
        for (auto& plane : samples_)
            pointers_.push_back(plane.data());
    }
    float* const* data() { return pointers_.data(); }
    const float* const* data() const { return pointers_.data(); }
    /// The same planes from `frame` on; holds until the next call.
    float* const* from(int frame) {
        moved_.clear();
        for (auto& plane : samples_)
            moved_.push_back(plane.data() + frame);
        return moved_.data();
    }
    std::vector<float>& operator[](int plane) { return samples_[static_cast<std::size_t>(plane)]; }
    const std::vector<float>& operator[](int plane) const { return samples_[static_cast<std::size_t>(plane)]; }
    float& at(int plane, std::int64_t frame) {
        return samples_[static_cast<std::size_t>(plane)][static_cast<std::size_t>(frame)];
    }
    float at(int plane, std::int64_t frame) const {
        return samples_[static_cast<std::size_t>(plane)][static_cast<std::size_t>(frame)];
    }
    int count() const { return static_cast<int>(samples_.size()); }
    int frames() const { return static_cast<int>(samples_.front().size()); }

  private:
    std::vector<std::vector<float>> samples_;
    std::vector<float*> pointers_;
    std::vector<float*> moved_;
};

class Random {
  public:
    explicit Random(unsigned seed) : engine_(seed) {}
    int from(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }
    bool oneIn(int n) { return from(1, n) == 1; }
    int oneOf(std::initializer_list<int> values) {
        return values.begin()[from(0, static_cast<int>(values.size()) - 1)];
    }
    float sample() { return std::uniform_real_distribution<float>(-1.0f, 1.0f)(engine_); }
    void fill(Planes& planes) {
        for (int p = 0; p < planes.count(); ++p)
            for (float& sample_ : planes[p])
                sample_ = sample();
    }

  private:
    std::mt19937 engine_;
};

/// A number in -0.5..0.5 that belongs to this frame of this plane and no other near it; exact in float. Half of the
/// planes are negative, so that their sum stays within what real stems have.
inline float nameOf(int plane, std::int64_t frame) {
    const float name = static_cast<float>((frame * 8 + plane) % 1000003) / static_cast<float>(1 << 21);
    return plane / 2 % 2 == 0 ? name : -name;
}

} // namespace stemline::test
