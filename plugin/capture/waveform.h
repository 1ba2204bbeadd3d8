// What the editor draws of a sound: peak and loudness of each stretch, in several resolutions.
#pragma once

#include "capture/capture_map.h"

#include <cstdint>
#include <span>
#include <vector>

namespace stemline::capture {

/// Of all channels together; full scale is 1.
struct Bucket {
    float peak = 0.0f;
    float meanSquare = 0.0f;

    float rms() const noexcept;
};

/// Grows while a sound is recorded, else is made once. About 1/200 of the sound's size. One thread at a time.
class Waveform {
  public:
    static constexpr int bucketFrames = 256; // of the finest resolution; each of the others is `factor` times coarser
    static constexpr int factor = 4;

    void add(const float* interleaved, int channels, std::int64_t frames);

    std::int64_t frames() const noexcept { return frames_; }

    /// One bucket for each pixel, which is `framesPerPixel` wide; the first begins at frame `first`. Where there is no
    /// sound there is silence.
    void draw(double first, double framesPerPixel, std::span<Bucket> pixels) const;

  private:
    using Level = std::vector<Bucket>;

    void finishBucket(Bucket);
    Bucket over(std::size_t level, double first, double stop) const;

    std::vector<Level> levels_{1};
    std::int64_t frames_ = 0;
    float peak_ = 0.0f; // of the bucket that is not full yet
    double squares_ = 0.0;
    int channels_ = 1;
};

/// Adds a part of a sound to pixels of a timeline, of which the first begins at `first`.
void drawPiece(const Waveform&, const Piece&, double first, double framesPerPixel, std::span<Bucket> pixels);

} // namespace stemline::capture
