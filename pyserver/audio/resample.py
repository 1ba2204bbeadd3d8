"""Resampling of whole windows. Axes: N samples, last; anything before them.

And of audio of any length, in blocks (N, C).
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import soxr

Audio = npt.NDArray[np.float32]


def resample_to(audio: Audio, from_hz: int, to_hz: int, num_samples: int) -> Audio:
    """(..., N) at `from_hz` → (..., num_samples) at `to_hz`; sample 0 of both lies at the same time.

    Stateless: the filter's first and last milliseconds see silence outside the window, which its margin has to cover.
    """
    if from_hz == to_hz:
        return fit(audio, num_samples)
    flat = np.ascontiguousarray(audio.reshape(-1, audio.shape[-1]).T)
    changed = np.asarray(soxr.resample(flat, from_hz, to_hz, quality="HQ"), dtype=np.float32)
    return fit(np.ascontiguousarray(changed.T).reshape(*audio.shape[:-1], -1), num_samples)


def fit(audio: Audio, num_samples: int) -> Audio:
    """Cut at the end, or continued with silence. Resamplers round lengths up or down by one."""
    if audio.shape[-1] >= num_samples:
        return audio[..., :num_samples]
    return np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, num_samples - audio.shape[-1])])


def resampled_blocks(blocks: Iterable[Audio], from_hz: int, to_hz: int, num_samples: int) -> Iterator[Audio]:
    """As `resample_to`, of audio of any length that comes and goes in blocks (N, C) of at least one channel.

    The bits depend on where the blocks are cut as little as the resampler's own do: not at all.
    """
    place, last = 0, None
    for last in _changed(blocks, from_hz, to_hz):
        block = last[: num_samples - place]
        place += len(block)
        if len(block):
            yield block
    if last is not None and place < num_samples:
        yield np.zeros((num_samples - place, last.shape[1]), np.float32)


def _changed(blocks: Iterable[Audio], from_hz: int, to_hz: int) -> Iterator[Audio]:
    if from_hz == to_hz:
        yield from blocks
        return
    stream: soxr.ResampleStream | None = None
    for block in blocks:
        if stream is None:
            stream = soxr.ResampleStream(from_hz, to_hz, block.shape[1], dtype="float32", quality="HQ")
        yield stream.resample_chunk(np.ascontiguousarray(block))
    if stream is not None:
        yield stream.resample_chunk(np.zeros((0, block.shape[1]), np.float32), last=True)
