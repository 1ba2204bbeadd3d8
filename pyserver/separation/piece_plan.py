"""Where the windows of a generated piece lie. Integer arithmetic only: no audio, no torch. Samples at the model's rate.

    |------------ window 0 ------------|
                            | overlap |------- window 1 -------|
                                              |    overlap    |-- window 2, which ends with the piece --|

A window knows its overlap, which the ones before it have made, and goes on from there. So it comes out as it went in,
bit for bit, and nothing is cross-faded.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PieceWindow:
    """[start, start + length) of the piece; its first `overlap` samples are made already."""

    index: int
    start: int
    length: int
    overlap: int

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class PiecePlan:
    """Windows of one length for a piece of `num_samples`, of which each hears at least `overlap` of what was before.

    A piece shorter than a window has one window, which goes beyond its end; else the last one ends with the piece, and
    knows so much the more.
    """

    window: int
    overlap: int
    num_samples: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.window or self.num_samples < 1:
            raise ValueError(f"no piece of {self.num_samples} samples in windows of {self.window} over {self.overlap}")

    @property
    def count(self) -> int:
        hop = self.window - self.overlap
        return 1 + max(0, -(-(self.num_samples - self.window) // hop))

    def __getitem__(self, index: int) -> PieceWindow:
        """Window `index` of `count`."""
        if not 0 <= index < self.count:
            raise IndexError(f"there are windows 0 to {self.count - 1}, none numbered {index}")
        start = self._start(index)
        made = self._start(index - 1) + self.window - start if index else 0
        return PieceWindow(index, start, self.window, made)

    def _start(self, index: int) -> int:
        return min(index * (self.window - self.overlap), max(0, self.num_samples - self.window))
