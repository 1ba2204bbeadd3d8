"""In-order overlap-add of windows on a timeline of known length. Numpy only.

Axes: S stems, C channels, N samples.
"""

import numpy as np

from pyserver.engine.messages import Audio
from pyserver.separation.windows import Window, WindowShape, fade_in


class OverlapAdd:
    """Takes the kept parts of windows 0, 1, 2, ... and gives runs of finished samples that follow each other.

    `tail_SCF` is all that lasts from one window to the next: the last fade of the window before, already faded out.
    With it, and the index of the next window, another object goes on exactly where this one stopped.
    """

    def __init__(self, shape: WindowShape, num_samples: int, tail_SCF: Audio | None = None) -> None:
        self._shape, self._num_samples = shape, num_samples
        self._rise_F = fade_in(shape.fade)
        # 1 - x is exact in float32 for x in [1/2, 1], and rounds by at most 2^-25 below.
        self._fall_F = (np.float32(1) - self._rise_F).astype(np.float32)
        self.tail_SCF = tail_SCF

    def push(self, window: Window, kept_SCN: Audio) -> tuple[int, Audio]:
        """(start, finished samples): empty only where nothing of the window lies inside the timeline."""
        fade = self._shape.fade
        assert kept_SCN.shape[-1] == self._shape.kept, f"{kept_SCN.shape} is not the kept part of {window}"
        assert (self.tail_SCF is None) == (window.index == 0), f"window {window.index} does not follow"
        body_SCN = kept_SCN[..., : self._shape.kept - fade].astype(np.float32, copy=True)
        if fade:
            body_SCN[..., :fade] *= self._rise_F
            if self.tail_SCF is not None:
                body_SCN[..., :fade] += self.tail_SCF
        self.tail_SCF = (kept_SCN[..., self._shape.kept - fade :] * self._fall_F).astype(np.float32)
        first, stop = max(window.keep_start, 0), min(window.keep_stop - fade, self._num_samples)
        return first, body_SCN[..., first - window.keep_start : max(stop, first) - window.keep_start]
