#include "client/flat_json.h"

#include <charconv>
#include <cstdint>

namespace stemline::client {

namespace {

class Parser {
  public:
    explicit Parser(std::string_view text) : text_(text) {}

    std::optional<std::map<std::string, std::string>> object() {
        std::map<std::string, std::string> members;
        if (!take('{'))
            return std::nullopt;
        if (!take('}'))
            do {
                std::string key;
                std::string value;
                if (!string(key) || !take(':') || !scalar(value))
                    return std::nullopt;
                members[key] = value;
            } while (take(','));
        if (!members.empty() && !take('}'))
            return std::nullopt;
        skipSpace();
        return at_ == text_.size() ? std::optional(members) : std::nullopt;
    }

  private:
    void skipSpace() {
        while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos)
            ++at_;
    }

    bool take(char wanted) {
        skipSpace();
        if (at_ >= text_.size() || text_[at_] != wanted)
            return false;
        ++at_;
        return true;
    }

    bool scalar(std::string& out) {
        skipSpace();
        if (at_ < text_.size() && text_[at_] == '"')
            return string(out);
        const std::size_t end = std::min(text_.find_first_of(",} \t\r\n", at_), text_.size());
        out = text_.substr(at_, end - at_);
        at_ = end;
        return !out.empty() && out.find_first_of("[{\"") == std::string::npos;
    }

    bool string(std::string& out) {
        if (!take('"'))
            return false;
        while (at_ < text_.size()) {
            const char c = text_[at_++];
            if (c == '"')
                return true;
            if (c != '\\')
                out.push_back(c);
            else if (!escape(out))
                return false;
        }
        return false;
    }

    bool escape(std::string& out) {
        if (at_ >= text_.size())
            return false;
        const char c = text_[at_++];
        if (c == 'u')
            return unicode(out);
        constexpr std::string_view names = "\"\\/bfnrt";
        constexpr std::string_view values = "\"\\/\b\f\n\r\t";
        const std::size_t found = names.find(c);
        if (found == std::string_view::npos)
            return false;
        out.push_back(values[found]);
        return true;
    }

    bool hexDigits(std::uint32_t& code) {
        if (text_.size() - at_ < 4)
            return false;
        const char* first = text_.data() + at_;
        at_ += 4;
        return std::from_chars(first, first + 4, code, 16).ptr == first + 4;
    }

    bool unicode(std::string& out) {
        std::uint32_t code = 0;
        if (!hexDigits(code))
            return false;
        if (code >= 0xd800 && code < 0xdc00) {
            std::uint32_t low = 0;
            if (text_.substr(at_, 2) != "\\u")
                return false;
            at_ += 2;
            if (!hexDigits(low) || low < 0xdc00 || low >= 0xe000)
                return false;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        // Python writes a byte of a path that is no UTF-8 as a lone low surrogate: it becomes that byte again.
        if (code >= 0xdc80 && code <= 0xdcff)
            out.push_back(static_cast<char>(code - 0xdc00));
        else
            appendUtf8(out, code);
        return true;
    }

    static void appendUtf8(std::string& out, std::uint32_t code) {
        const auto tail = [&out, code](int shift) { out.push_back(static_cast<char>(0x80 | (code >> shift & 0x3f))); };
        if (code < 0x80) {
            out.push_back(static_cast<char>(code));
        } else if (code < 0x800) {
            out.push_back(static_cast<char>(0xc0 | code >> 6));
            tail(0);
        } else if (code < 0x10000) {
            out.push_back(static_cast<char>(0xe0 | code >> 12));
            tail(6), tail(0);
        } else {
            out.push_back(static_cast<char>(0xf0 | code >> 18));
            tail(12), tail(6), tail(0);
        }
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

} // namespace

std::optional<std::map<std::string, std::string>> parseFlatJson(std::string_view text) { return Parser(text).object(); }

} // namespace stemline::client
