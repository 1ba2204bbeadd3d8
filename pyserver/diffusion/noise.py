"""The noise: a function of (seed, position, step), so a window sounds the same whenever and wherever it is run."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

_MASK_64 = (1 << 64) - 1


def normal_stream(seed: int, position: int, shape: Sequence[int], step: int = 0) -> Iterator[Tensor]:
    """Endless standard normal tensors of `shape`, float32, on the CPU.

    Philox is counter-based: streams of different (seed, position, step) are independent, and none depends on how often
    or in what order the others are drawn. Seed and position may be negative; they are taken modulo 2**64.
    """
    # an array, since numpy would take a list of such large numbers for floats and round them
    key = np.array([seed & _MASK_64, position & _MASK_64], dtype=np.uint64)
    # the counter's highest word: no stream is long enough to reach the next step's
    counter = np.array([0, 0, 0, step], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    while True:
        yield torch.from_numpy(generator.standard_normal(tuple(shape), dtype=np.float32))
