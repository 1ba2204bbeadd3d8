"""A lower sample rate by a whole factor, on the training device. Axes: L and N samples, last; anything before them."""

from functools import cache

import torch
from torch import Tensor

_ZERO_CROSSINGS = 24
_CUT_OFF = 0.92  # of the new Nyquist frequency


def decimated(x: Tensor, factor: int) -> Tensor:
    """(..., L) -> (..., L / factor), sample 0 of both at the same time. Raises ValueError for lengths with a rest."""
    if factor == 1:
        return x
    if x.shape[-1] % factor:
        raise ValueError(f"{x.shape[-1]} samples are not a multiple of {factor}")
    taps = _low_pass(factor).to(x)
    flat = x.reshape(-1, 1, x.shape[-1])
    out = torch.nn.functional.conv1d(flat, taps[None, None], stride=factor, padding=len(taps) // 2)
    return out[..., : x.shape[-1] // factor].reshape(*x.shape[:-1], -1)


@cache
def _low_pass(factor: int) -> Tensor:
    """A windowed sinc of unit gain; it is 70 dB down where it would fold back."""
    reach = _ZERO_CROSSINGS * factor
    time = torch.arange(-reach, reach + 1, dtype=torch.float64)
    sinc = torch.special.sinc(time * _CUT_OFF / factor)
    taps = sinc * torch.kaiser_window(2 * reach + 1, periodic=False, beta=7.0, dtype=torch.float64)
    low_pass: Tensor = (taps / taps.sum()).float()
    return low_pass
