"""How large a batch of live windows is, on a clock that the batches themselves advance."""

import time

import pytest

from pyserver.engine.timing import best_batch


class Clock:
    """Seconds by the size of a batch; every third run is disturbed."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.now, self.runs, self.seconds = 0.0, 0, seconds

    def compute(self, size: int) -> None:
        self.runs += 1
        self.now += self.seconds[size] + (5.0 if self.runs % 3 == 0 else 0.0)


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1.0, 2: 1.2, 4: 1.6}, 4),
        ({1: 1.0, 2: 1.2, 4: 2.4}, 2),  # four are no faster than two and two
        ({1: 1.0, 2: 2.0, 4: 1.0}, 1),  # two do not pay, so that four are not tried
        ({1: 1.0, 2: 1.96, 4: 3.0}, 1),  # a gain that another run might not show
    ],
)
def test_a_batch_is_as_large_as_it_is_really_faster(
    seconds: dict[int, float], best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(seconds)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    assert best_batch(clock.compute) == best
