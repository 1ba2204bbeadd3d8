#include "client/hashes.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace stemline::client {

namespace {

constexpr std::array<std::uint32_t, 64> roundConstants{
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t bigEndian(const std::uint8_t* bytes) {
    return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
}

std::string_view view(const Digest& digest) { return {reinterpret_cast<const char*>(digest.data()), digest.size()}; }

/// Tables for eight bytes at a time: an upload must not be slower than the disk for the sake of its checksum.
constexpr auto crcTables = [] {
    std::array<std::array<std::uint32_t, 256>, 8> tables{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78U : 0U);
        tables[0][byte] = crc;
    }
    for (std::size_t table = 1; table < 8; ++table)
        for (std::size_t byte = 0; byte < 256; ++byte) {
            const std::uint32_t before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][before & 0xff];
        }
    return tables;
}();

} // namespace

void Sha256::update(std::string_view bytes) {
    total_ += bytes.size();
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    std::size_t size = bytes.size();
    if (filled_ > 0) {
        const std::size_t taken = std::min(size, rest_.size() - filled_);
        std::memcpy(rest_.data() + filled_, data, taken);
        filled_ += taken, data += taken, size -= taken;
        if (filled_ < rest_.size())
            return;
        block(rest_.data());
        filled_ = 0;
    }
    for (; size >= rest_.size(); data += rest_.size(), size -= rest_.size())
        block(data);
    if (size > 0)
        std::memcpy(rest_.data(), data, size);
    filled_ = size;
}

Digest Sha256::finish() {
    const std::uint64_t bits = total_ * 8;
    std::string padding(1, '\x80');
    padding.append((filled_ < 56 ? 55 : 119) - filled_, '\0');
    for (int shift = 56; shift >= 0; shift -= 8)
        padding.push_back(static_cast<char>(bits >> shift & 0xff));
    update(padding);
    Digest digest;
    for (std::size_t word = 0; word < state_.size(); ++word)
        for (std::size_t byte = 0; byte < 4; ++byte)
            digest[4 * word + byte] = static_cast<std::uint8_t>(state_[word] >> (24 - 8 * byte));
    return digest;
}

void Sha256::block(const std::uint8_t* bytes) {
    std::array<std::uint32_t, 64> w;
    for (std::size_t i = 0; i < 16; ++i)
        w[i] = bigEndian(bytes + 4 * i);
    for (std::size_t i = 16; i < 64; ++i) {
        const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
        const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t i = 0; i < 64; ++i) {
        const std::uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
        const std::uint32_t first = h + s1 + ((e & f) ^ (~e & g)) + roundConstants[i] + w[i];
        const std::uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
        const std::uint32_t second = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const std::array<std::uint32_t, 8> change{a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i)
        state_[i] += change[i];
}

Digest sha256(std::string_view bytes) {
    Sha256 hash;
    hash.update(bytes);
    return hash.finish();
}

Digest hmacSha256(std::string_view key, std::string_view message) {
    std::string padded(key.size() > 64 ? std::string(view(sha256(key))) : std::string(key));
    padded.resize(64, '\0');
    const auto masked = [&padded](int mask) {
        std::string out = padded;
        for (char& c : out)
            c = static_cast<char>(c ^ mask);
        return out;
    };
    return sha256(masked(0x5c).append(view(sha256(masked(0x36).append(message)))));
}

std::string hex(const Digest& digest) {
    std::string text;
    for (const std::uint8_t byte : digest)
        text.append(1, "0123456789abcdef"[byte >> 4]).append(1, "0123456789abcdef"[byte & 15]);
    return text;
}

bool sameSecret(std::string_view a, std::string_view b) {
    if (a.size() != b.size())
        return false;
    unsigned difference = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        difference |= static_cast<unsigned char>(a[i] ^ b[i]);
    return difference == 0;
}

std::uint32_t crc32c(std::string_view bytes) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    std::size_t size = bytes.size();
    std::uint32_t crc = 0xffffffff;
    for (; size >= 8; data += 8, size -= 8) {
        const std::uint32_t low =
            crc ^ (data[0] | std::uint32_t{data[1]} << 8 | std::uint32_t{data[2]} << 16 | std::uint32_t{data[3]} << 24);
        crc = crcTables[7][low & 0xff] ^ crcTables[6][low >> 8 & 0xff] ^ crcTables[5][low >> 16 & 0xff] ^
              crcTables[4][low >> 24] ^ crcTables[3][data[4]] ^ crcTables[2][data[5]] ^ crcTables[1][data[6]] ^
              crcTables[0][data[7]];
    }
    for (; size > 0; ++data, --size)
        crc = (crc >> 8) ^ crcTables[0][(crc ^ *data) & 0xff];
    return ~crc;
}

} // namespace stemline::client
