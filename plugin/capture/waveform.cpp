#include "capture/waveform.h"

#include <algorithm>
#include <cmath>

namespace stemline::capture {

namespace {

/// Of equally long stretches.
Bucket joined(std::span<const Bucket> buckets) {
    Bucket sum;
    for (const Bucket& bucket : buckets) {
        sum.peak = std::max(sum.peak, bucket.peak);
        sum.meanSquare += bucket.meanSquare;
    }
    sum.meanSquare /= static_cast<float>(std::max<std::size_t>(buckets.size(), 1));
    return sum;
}

} // namespace

float Bucket::rms() const noexcept { return std::sqrt(meanSquare); }

void Waveform::add(const float* interleaved, int channels, std::int64_t frames) {
    channels_ = channels;
    while (frames > 0) {
        const auto missing = bucketFrames - frames_ % bucketFrames;
        const std::int64_t count = std::min<std::int64_t>(frames, missing);
        for (std::int64_t i = 0; i < count * channels; ++i) {
            const float sample = std::abs(interleaved[i]);
            peak_ = std::max(peak_, sample);
            squares_ += static_cast<double>(sample) * static_cast<double>(sample);
        }
        interleaved += count * channels;
        frames -= count;
        frames_ += count;
        if (count == missing) {
            finishBucket({peak_, static_cast<float>(squares_ / (bucketFrames * channels))});
            peak_ = 0.0f;
            squares_ = 0.0;
        }
    }
}

void Waveform::finishBucket(Bucket bucket) {
    for (std::size_t level = 0;; ++level) {
        if (level == levels_.size())
            levels_.emplace_back();
        Level& buckets = levels_[level];
        buckets.push_back(bucket);
        if (buckets.size() % factor != 0)
            return;
        bucket = joined(std::span(buckets).last(factor));
    }
}

void Waveform::draw(double first, double framesPerPixel, std::span<Bucket> pixels) const {
    std::size_t level = 0;
    double width = bucketFrames;
    // The coarsest with at least one bucket a pixel: a pixel never takes more than a few of them.
    for (; level + 1 < levels_.size() && width * factor <= framesPerPixel; ++level)
        width *= factor;
    for (std::size_t i = 0; i < pixels.size(); ++i) {
        const double begin = first + static_cast<double>(i) * framesPerPixel;
        pixels[i] = over(level, std::max(begin, 0.0), std::min(begin + framesPerPixel, static_cast<double>(frames_)));
    }
}

Bucket Waveform::over(std::size_t level, double first, double stop) const {
    Bucket sum;
    double weight = 0.0;
    const auto take = [&sum, &weight](Bucket bucket, double frames) {
        sum.peak = std::max(sum.peak, bucket.peak);
        sum.meanSquare += bucket.meanSquare * static_cast<float>(frames);
        weight += frames;
    };
    if (first >= stop)
        return sum;
    // Behind the last full bucket of a level, finer ones know more.
    for (std::size_t fine = level + 1; fine-- > 0 && first < stop;) {
        const double width = std::pow(static_cast<double>(factor), static_cast<double>(fine)) * bucketFrames;
        const Level& buckets = levels_[fine];
        for (auto i = static_cast<std::size_t>(first / width); i < buckets.size() && first < stop; ++i) {
            take(buckets[i], width);
            first = static_cast<double>(i + 1) * width;
        }
    }
    if (const auto collected = static_cast<double>(frames_ % bucketFrames); first < stop && collected > 0)
        take({peak_, static_cast<float>(squares_ / (collected * channels_))}, collected);
    if (weight > 0.0)
        sum.meanSquare /= static_cast<float>(weight);
    return sum;
}

void drawPiece(const Waveform& waveform, const Piece& piece, double first, double framesPerPixel,
               std::span<Bucket> pixels) {
    const auto start = static_cast<double>(piece.start), stop = static_cast<double>(piece.stop());
    const auto count = static_cast<double>(pixels.size());
    const double low = std::clamp(std::ceil((start - first) / framesPerPixel), 0.0, count);
    const double high = std::clamp(std::ceil((stop - first) / framesPerPixel), low, count);
    const double from = first + low * framesPerPixel - start + static_cast<double>(piece.offset);
    waveform.draw(from, framesPerPixel,
                  pixels.subspan(static_cast<std::size_t>(low), static_cast<std::size_t>(high - low)));
}

} // namespace stemline::capture
