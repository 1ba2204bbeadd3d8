#pragma once

namespace stemline::host {

/** From now on the calling thread's system calls are counted and refused, all but those that end it. Linux only. */
void forbidSystemCalls();
int forbiddenSystemCalls();

/** What the preloaded checker counted; -1 if it is not preloaded. The first offence's trace goes to standard error. */
int offencesSeen();

} // namespace stemline::host
