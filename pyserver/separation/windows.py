"""Where windows lie on the timeline. Integer arithmetic only: no audio, no torch.

    |margin|fade|------ body ------|fade|margin|      window k
                                   |fade|------ body ------|...   window k + 1, `hop` later

Margins give the network context and are thrown away. Neighbouring windows cross-fade; window 0 begins before the
song, so that its first body starts at position 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class WindowShape:
    """Lengths in samples. `length` is what a network sees, `kept` what is used of it."""

    length: int
    margin: int
    fade: int

    def __post_init__(self) -> None:
        if self.margin < 0 or self.fade < 0 or self.body <= 0:
            raise ValueError(
                f"no window of {self.length} samples has margins of {self.margin} and fades of {self.fade}"
            )

    @property
    def body(self) -> int:
        return self.length - 2 * (self.margin + self.fade)

    @property
    def hop(self) -> int:
        return self.body + self.fade

    @property
    def kept(self) -> int:
        return self.length - 2 * self.margin

    def at_rate(self, from_hz: int, to_hz: int) -> "WindowShape":
        """The same shape on a timeline of another sample rate, each length rounded to the nearest sample."""
        return WindowShape(*(round(n * to_hz / from_hz) for n in (self.length, self.margin, self.fade)))


@dataclass(frozen=True, slots=True)
class Window:
    """Window `index` of a grid; it reads [start, start + length) and gives [keep_start, keep_stop), as positions."""

    index: int
    shape: WindowShape

    @property
    def start(self) -> int:
        return self.index * self.shape.hop - self.shape.fade - self.shape.margin

    @property
    def stop(self) -> int:
        return self.start + self.shape.length

    @property
    def keep_start(self) -> int:
        return self.start + self.shape.margin

    @property
    def keep_stop(self) -> int:
        return self.stop - self.shape.margin


def window_count(shape: WindowShape, num_samples: int) -> int:
    """How many windows of the grid are needed until every sample of [0, num_samples) has full weight."""
    return 0 if num_samples == 0 else 1 + max(0, -(-(num_samples - shape.body) // shape.hop))


def plan(shape: WindowShape, num_samples: int, first: int = 0) -> Iterator[Window]:
    """The windows of a song from index `first` on, in order."""
    return (Window(index, shape) for index in range(first, window_count(shape, num_samples)))


@cache
def fade_in(fade: int) -> npt.NDArray[np.float32]:
    """Rising half of the cross-fade; the falling half is `1 - fade_in`, so that the two sum to one exactly."""
    rise_F: npt.NDArray[np.float32] = ((np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1)).astype(np.float32)
    rise_F.setflags(write=False)  # every window has the same
    return rise_F
