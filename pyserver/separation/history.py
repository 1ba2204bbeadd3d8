"""The last samples of an unbroken run of blocks, for windows to be cut from. Axes: C channels, N samples."""

import numpy as np

from pyserver.engine.messages import Audio


class History:
    """Positions are the stream's own; before `start` lies silence.

    `keep` samples before the last `append` can always be cut. An append takes at most `most` samples.
    """

    def __init__(self, channels: int, *, start: int, keep: int, most: int) -> None:
        self.end = start
        self._keep = keep
        # Room for what is kept and as much again: it moves to the front only once in its own length.
        self._buffer_CN = np.zeros((channels, 2 * keep + most), np.float32)
        self._filled = keep

    def append(self, audio_CN: Audio) -> None:
        count = audio_CN.shape[1]
        if self._filled + count > self._buffer_CN.shape[1]:
            kept_CN = self._buffer_CN[:, self._filled - self._keep : self._filled]
            self._buffer_CN[:, : self._keep] = kept_CN.copy()
            self._filled = self._keep
        self._buffer_CN[:, self._filled : self._filled + count] = audio_CN
        self._filled += count
        self.end += count

    def append_silence(self, num_samples: int) -> None:
        self.append(np.zeros((len(self._buffer_CN), num_samples), np.float32))

    def cut(self, start: int, stop: int) -> Audio:
        """A copy of [start, stop)."""
        shift = self._filled - self.end
        assert -shift <= start <= stop <= self.end, f"[{start}, {stop}) is not kept at {self.end}"
        return self._buffer_CN[:, start + shift : stop + shift].copy()
