#pragma once

#include "host.h"

namespace stemline::host {

/** What many instances in one process cost together. */
struct CrowdCost {
    int threadsBefore = 0, threads = 0, threadsAfter = 0;
    int descriptorsBefore = 0, descriptors = 0, descriptorsAfter = 0;
};

/** Opens `count` instances, lets each process `frames` frames of noise at real time's pace, and closes them. */
CrowdCost crowd(int count, std::int64_t frames, const Host::OnMessageThread&);

int threadsNow();
int descriptorsNow();

} // namespace stemline::host
