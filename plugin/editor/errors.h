#pragma once
// Everything that can go wrong, as the user is told: what happened, what is heard now, what to do. Which of the buttons
// does what is the caller's, by its index in EditorActions::errorButton.

#include "editor/editor_state.h"

namespace stemline::editor::errors {

enum class MissingWhere { localServer, remoteServer };

/** Buttons: 0 "Try now", 1 "Restart server". */
EditorError serverLost(const std::string& at, const std::string& reason);
/** Buttons: 0 "Get model", 1 "Choose another". */
EditorError modelMissing(const std::string& model, const std::string& sizeText,
                         MissingWhere where = MissingWhere::localServer);
/** Button: 0 "Cancel". */
EditorError gettingModel(const std::string& model, const std::string& doneText, const std::string& totalText);
/** The same before and behind the download itself. */
EditorError gettingModel(const std::string& model, bool installing);
/** Buttons: 0 "Try again", 1 "Choose another". */
EditorError modelNotGot(const std::string& model, const std::string& reason);
/** Buttons: 0 "Choose model", 1 "Settings". */
EditorError outOfMemory(const std::string& what);
/** Buttons: 0 "Longer latency", 1 "Close"; where there is no longer one, only 0 "Close". */
EditorError lateBlocks(int count, bool longerExists, bool playing);
/** Button: 0 "Close". */
EditorError bounceIncomplete(TimeRange);
/** `left`: what is stale still. Button: 0 "Close". */
EditorError partlyUpdated(const std::vector<TimeRange>& left);
EditorError cannotRead(const std::string& file, const std::string& why = {});
/** `log`: the last lines of what it printed. Button: 0 "Try now". */
EditorError didNotStart(const std::string& why, const std::string& log);
/** Button: 0 "Settings". */
EditorError needsTlsAndToken();
/** Captured, but neither recording nor stems are there. Buttons: 0 "Settings", 1 "Close". */
EditorError captureLost(const std::vector<TimeRange>& lost, const std::string& folder);
/** What was captured cannot play at another rate. Button: 0 "Close". */
EditorError otherRate(double capturedHz, double nowHz);
/** Something that was asked for and changed nothing. Button: 0 "Close". */
EditorError failed(const std::string& title, const std::string& what);
/** What has no words of its own: the server's. Buttons: 0 "Try now". */
EditorError other(const std::string& title, const std::string& what);

} // namespace stemline::editor::errors
