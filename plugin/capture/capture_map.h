// What is captured where: arithmetic on pieces of the host's timeline. No files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stemline::capture {

/// A stretch of the timeline and where its audio lies. Lengths and positions in frames.
struct Piece {
    std::int64_t start = 0; // host position
    std::int64_t length = 0;
    std::string source;            // sha256 of the source object, in hex
    std::int64_t sourceFrames = 0; // its whole length
    std::int64_t offset = 0;       // of `start` within it
    int channels = 2;
    std::string stems;                       // key of the stems object made of the whole source; empty: none yet
    bool hardStart = false, hardEnd = false; // a file begins or ends here: on this side there is nothing to fade with

    std::int64_t stop() const noexcept { return start + length; }
    bool operator==(const Piece&) const = default;
};

/// Pieces in order, without overlap: what came last has won. A value; one thread at a time.
class CaptureMap {
  public:
    /// Covers what was there before.
    void overlay(const Piece&);
    void overlay(const CaptureMap&);
    /// The same for a piece behind all others, as when they are read in order.
    void append(const Piece&);
    void erase(std::int64_t start, std::int64_t stop);

    /// Every piece of this source gets these stems; false if there is none.
    bool setStems(const std::string& source, const std::string& key);

    const std::vector<Piece>& pieces() const noexcept { return pieces_; }
    bool empty() const noexcept { return pieces_.empty(); }
    bool uses(const std::string& source) const noexcept;

    /// Unbroken stretches: pieces [first, stop) follow each other and have equally many channels.
    struct Stretch {
        std::size_t first = 0, stop = 0;
    };
    std::vector<Stretch> stretches() const;

    bool operator==(const CaptureMap&) const = default;

  private:
    std::vector<Piece> pieces_;
};

/// All that a project keeps of an instance's captures: small, and enough to make the stems again.
struct Capture {
    int rateHz = 0; // of positions and of all audio
    CaptureMap map;
    std::string model; // that the stems were made with
    std::string weightsSha256;
    int refinerSteps = 0;
    std::uint64_t seed = 0;

    bool operator==(const Capture&) const = default;
};

} // namespace stemline::capture
