"""Activations in 16 bits, where they are many, kept for long, and float32 is more than their use asks for.

Whole numbers of 15 bits and sign, and a float32 scale for every group of neighbours along the last axis: some ten times
closer than float16, and never beyond the range of the numbers. What is not finite stays so.
"""

import math

import torch
from torch import Tensor

_GROUP = 64  # at most: what is large in one place costs accuracy in its own group alone
_LARGEST = 2**15 - 1


def packed_width(dim: int) -> int:
    """Of the last axis, when it has `dim` numbers: int16, then the scales' bits in pairs of them."""
    return dim + 2 * (dim // math.gcd(dim, _GROUP))


def pack(x: Tensor, out: Tensor) -> None:
    """(..., D) float32, with D even, into (..., packed_width(D)) int16."""
    dim = x.shape[-1]
    groups = x.reshape(*x.shape[:-1], -1, math.gcd(dim, _GROUP))
    scale = groups.abs().amax(-1).clamp_min(torch.finfo(x.dtype).tiny * _LARGEST) / _LARGEST
    out[..., :dim] = groups.div(scale[..., None]).round_().flatten(-2)
    out[..., dim:].view(torch.float32).copy_(scale)


def unpacked(x: Tensor, dim: int) -> Tensor:
    """(..., dim) float32 of what `pack` made; any other tensor as it is."""
    if x.dtype != torch.int16:
        return x
    scale = x[..., dim:].view(torch.float32)
    groups = x[..., :dim].float().reshape(*scale.shape, -1)
    return groups.mul_(scale[..., None]).flatten(-2)
