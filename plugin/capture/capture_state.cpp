#include "capture/capture_state.h"

#include "client/hashes.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace stemline::capture {

namespace {

constexpr std::string_view firstLine = "stemline-capture 1";
constexpr std::int64_t farthest = std::int64_t{1} << 48; // no project is 10,000 hours long
constexpr std::size_t mostPieces = 100000;

std::string line(std::string_view name, std::string_view value) {
    return std::string(name).append(1, ' ').append(value).append(1, '\n');
}

std::string checksum(std::string_view text) { return std::to_string(client::crc32c(text)); }

/// A model's name comes from the server: whatever it holds, it stays on its line.
std::string oneLine(std::string text) {
    std::erase_if(text, [](unsigned char c) { return c < ' '; });
    return text;
}

std::string describe(const Piece& piece) {
    std::string text = "piece";
    for (const std::int64_t number :
         {piece.start, piece.length, piece.sourceFrames, piece.offset, std::int64_t{piece.channels},
          std::int64_t{piece.hardStart}, std::int64_t{piece.hardEnd}})
        text.append(1, ' ').append(std::to_string(number));
    return text + ' ' + piece.source + ' ' + (piece.stems.empty() ? "-" : piece.stems) + '\n';
}

/// Takes words off the front of a line; remembers if one was missing or wrong.
class Words {
  public:
    explicit Words(std::string_view text) : rest_(text) {}

    std::string_view word() {
        const std::size_t end = std::min(rest_.find(' '), rest_.size());
        const std::string_view found = rest_.substr(0, end);
        rest_.remove_prefix(std::min(end + 1, rest_.size()));
        good_ = good_ && !found.empty();
        return found;
    }

    template <class Number> Number number(Number least, Number most) {
        const std::string_view text = word();
        Number value{};
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        good_ = good_ && error == std::errc{} && end == text.data() + text.size() && value >= least && value <= most;
        return good_ ? value : least;
    }

    std::string digest() {
        const std::string_view text = word();
        const bool hex = std::all_of(text.begin(), text.end(),
                                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
        good_ = good_ && hex && text.size() == 64;
        return std::string(text);
    }

    std::string_view rest() const { return rest_; }
    bool startsWith(std::string_view text) const { return rest_.starts_with(text); }
    bool good() const { return good_; }
    bool ended() const { return good_ && rest_.empty(); }

  private:
    std::string_view rest_;
    bool good_ = true;
};

std::optional<Piece> readPiece(Words words) {
    Piece piece;
    words.word(); // "piece"
    piece.start = words.number(-farthest, farthest);
    piece.length = words.number<std::int64_t>(1, farthest);
    piece.sourceFrames = words.number<std::int64_t>(1, farthest);
    piece.offset = words.number<std::int64_t>(0, farthest);
    piece.channels = words.number(1, 2);
    piece.hardStart = words.number(0, 1) == 1;
    piece.hardEnd = words.number(0, 1) == 1;
    piece.source = words.digest();
    if (words.startsWith("-"))
        words.word();
    else
        piece.stems = words.digest();
    if (!words.ended() || piece.offset + piece.length > piece.sourceFrames)
        return std::nullopt;
    return piece;
}

std::optional<Capture> read(std::string_view text) {
    Capture capture;
    const auto next = [&text] {
        const std::size_t end = text.find('\n');
        const std::string_view found = text.substr(0, end);
        text.remove_prefix(std::min(found.size() + 1, text.size()));
        return found;
    };
    const auto setting = [&next](std::string_view name) {
        const std::string_view found = next();
        return found.starts_with(name) ? found.substr(std::min(name.size() + 1, found.size())) : std::string_view();
    };
    if (next() != firstLine)
        return std::nullopt;
    Words rate(setting("rate")), steps("0"), seed("0");
    capture.rateHz = rate.number(1, 10'000'000);
    capture.model = setting("model");
    capture.weightsSha256 = setting("weights");
    steps = Words(setting("steps"));
    capture.refinerSteps = steps.number(0, 1000);
    seed = Words(setting("seed"));
    capture.seed = seed.number<std::uint64_t>(0, UINT64_MAX);
    if (!rate.ended() || !steps.ended() || !seed.ended())
        return std::nullopt;
    while (!text.empty()) {
        const std::optional<Piece> piece = readPiece(Words(next()));
        const auto& pieces = capture.map.pieces();
        // In order, or it was not us who wrote it.
        if (!piece || (!pieces.empty() && piece->start < pieces.back().stop()) || pieces.size() >= mostPieces)
            return std::nullopt;
        capture.map.append(*piece);
    }
    return capture;
}

} // namespace

std::string saveCapture(const Capture& capture) {
    std::string text = std::string(firstLine) + '\n';
    text += line("rate", std::to_string(capture.rateHz));
    text += line("model", oneLine(capture.model));
    text += line("weights", oneLine(capture.weightsSha256));
    text += line("steps", std::to_string(capture.refinerSteps));
    text += line("seed", std::to_string(capture.seed));
    for (const Piece& piece : capture.map.pieces())
        text += describe(piece);
    return text + line("end", checksum(text));
}

Capture loadCapture(std::string_view blob) noexcept {
    try {
        const std::size_t end = blob.rfind("end ");
        if (end == std::string_view::npos || end == 0 || blob[end - 1] != '\n' ||
            blob.substr(end) != line("end", checksum(blob.substr(0, end))))
            return {};
        return read(blob.substr(0, end)).value_or(Capture{});
    } catch (...) {
        return {}; // no memory left, in a host that reads a state of gigabytes
    }
}

} // namespace stemline::capture
