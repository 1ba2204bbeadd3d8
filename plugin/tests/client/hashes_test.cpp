#include "client/hashes.h"

#include <catch2/catch.hpp>

using namespace stemline::client;

TEST_CASE("SHA-256 gives the digests of FIPS 180-4") {
    CHECK(hex(sha256("")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(hex(sha256("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")) ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(hex(sha256(std::string(1'000'000, 'a'))) ==
          "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256 does not depend on the pieces it is fed in") {
    const std::string text(1000, 'x');
    const std::string whole = hex(sha256(text));
    for (const std::size_t size : {1U, 7U, 55U, 56U, 63U, 64U, 65U, 129U}) {
        Sha256 hash;
        for (std::size_t at = 0; at < text.size(); at += size)
            hash.update(std::string_view(text).substr(at, size));
        CHECK(hex(hash.finish()) == whole);
    }
}

TEST_CASE("HMAC-SHA256 gives the tags of RFC 4231") {
    CHECK(hex(hmacSha256("Jefe", "what do ya want for nothing?")) ==
          "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    CHECK(hex(hmacSha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First")) ==
          "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST_CASE("CRC-32C gives the sums of RFC 3720") {
    CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aaU);
    CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43U);
    CHECK(crc32c("123456789") == 0xe3069283U);
    CHECK(crc32c("") == 0U);
}

TEST_CASE("only equal secrets are the same") {
    CHECK(sameSecret("token", "token"));
    CHECK_FALSE(sameSecret("token", "tokeN"));
    CHECK_FALSE(sameSecret("token", "token "));
    CHECK_FALSE(sameSecret("", "token"));
}
