"""Which channels of a file belong together. Axes: C channels."""

from collections.abc import Sequence

# Channel orders as in WAVE_FORMAT_EXTENSIBLE: front pair, centre, low frequencies, then pairs from back to front.
_LAYOUTS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((0,),),
    2: ((0, 1),),
    3: ((0, 1), (2,)),
    4: ((0, 1), (2, 3)),
    5: ((0, 1), (2,), (3, 4)),
    6: ((0, 1), (2,), (3,), (4, 5)),
    7: ((0, 1), (2,), (3,), (4,), (5, 6)),
    8: ((0, 1), (2,), (3,), (4, 5), (6, 7)),
}


def channel_groups(channels: int, model_channels: int) -> Sequence[tuple[int, ...]]:
    """Pairs and singles for a stereo model, singles for a mono one; what has no known layout is taken singly.

    A single channel goes into both inputs of a stereo model, and the mean of its outputs comes back.
    """
    if channels < 1:
        raise ValueError(f"audio has {channels} channels")
    if model_channels == 1 or channels not in _LAYOUTS:
        return tuple((channel,) for channel in range(channels))
    return _LAYOUTS[channels]
