// The little JSON that `server.json` is: one object of strings, numbers, booleans and nulls.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace stemline::client {

/// The members of `text`, strings decoded to UTF-8, everything else as it is written. Absent if it is anything else
/// than one flat object: another version's record is no record.
std::optional<std::map<std::string, std::string>> parseFlatJson(std::string_view text);

} // namespace stemline::client
