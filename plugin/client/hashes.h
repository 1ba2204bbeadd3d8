// SHA-256, its HMAC, and CRC-32C: a hundred lines, rather than a crypto library that a host may have in another
// version.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace stemline::client {

using Digest = std::array<std::uint8_t, 32>;

/// FIPS 180-4, fed in pieces. One thread.
class Sha256 {
  public:
    void update(std::string_view bytes);
    Digest finish(); // ends it

  private:
    void block(const std::uint8_t* bytes);

    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<std::uint8_t, 64> rest_{};
    std::size_t filled_ = 0;
    std::uint64_t total_ = 0;
};

Digest sha256(std::string_view bytes);
Digest hmacSha256(std::string_view key, std::string_view message); // RFC 2104
std::string hex(const Digest&);
/// Takes as long for a nearly right guess as for a wrong one.
bool sameSecret(std::string_view, std::string_view);

std::uint32_t crc32c(std::string_view bytes); // Castagnoli, as in RFC 3720

} // namespace stemline::client
