#include "engine/snapshot.h"

#include <catch2/catch.hpp>

using namespace stemline;

namespace {

/// Counts how many are alive.
struct Counted {
    int value;
    int* alive;
    Counted(int value_, int* alive_) : value(value_), alive(alive_) { ++*alive; }
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
    ~Counted() { --*alive; }
};

} // namespace

TEST_CASE("The audio thread gets the newest object, and every other one is deleted") {
    int alive = 0;
    {
        SnapshotSlot<Counted> slot;
        CHECK(slot.current() == nullptr);
        for (int i = 0; i < 100; ++i) {
            slot.publish(std::make_unique<Counted>(i, &alive));
            if (i % 3 == 0) {
                slot.current();
                slot.current();
                slot.collect();
                CHECK(slot.current()->value == i);
            }
            CHECK(alive <= 4);
        }
        slot.publish(nullptr);
        slot.current();
        slot.current();
        slot.collect();
        CHECK(slot.current() == nullptr);
        slot.collect();
        CHECK(alive == 0);
        slot.publish(std::make_unique<Counted>(1, &alive));
    }
    CHECK(alive == 0);
}

TEST_CASE("What was played last lives until the block after the change") {
    int alive = 0;
    SnapshotSlot<Counted> slot;
    slot.publish(std::make_unique<Counted>(1, &alive));
    const Counted* const old = slot.current();
    slot.publish(std::make_unique<Counted>(2, &alive));
    CHECK(slot.current()->value == 2);
    slot.collect();
    CHECK(old->value == 1);
    slot.current();
    slot.collect();
    CHECK(alive == 1);
}
