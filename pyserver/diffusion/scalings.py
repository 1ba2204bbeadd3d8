"""Preconditioning of the network: `D(x; sigma) = skip * x + out * F(inp * x, noise)`.

Sigma, sigma_data and the waveform share one unit (full scale = 1). Axis B is the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Scalings:
    """The four coefficients of the preconditioning, each of shape (B)."""

    skip: Tensor
    out: Tensor
    inp: Tensor
    noise: Tensor


ScalingsFunction = Callable[[Tensor, float, float], Scalings]
"""`(sigma_B, sigma_data, sigma_min)` -> Scalings."""


def edm_scalings(sigma_B: Tensor, sigma_data: float, sigma_min: float = 0.0) -> Scalings:
    """Karras et al. 2022, table 1. `sigma_min` has no part in it; it is here to be a ScalingsFunction."""
    total = sigma_B.square() + sigma_data**2
    return Scalings(
        skip=sigma_data**2 / total,
        out=sigma_B * sigma_data / total.sqrt(),
        inp=total.rsqrt(),
        noise=sigma_B.log() / 4,
    )


def consistency_scalings(sigma_B: Tensor, sigma_data: float, sigma_min: float) -> Scalings:
    """Song et al. 2023, appendix C, as published for DiCoSe: the root in `out` holds sigma², not (sigma - sigma_min)².

    At `sigma_min` the output is exactly the input: skip = 1 and out = 0.
    """
    # the subtraction is made in sigma's own precision, so that a sigma that was rounded to it meets sigma_min exactly
    excess = sigma_B - sigma_B.new_tensor(sigma_min)
    total = sigma_B.square() + sigma_data**2
    return Scalings(
        skip=sigma_data**2 / (excess.square() + sigma_data**2),
        out=excess * sigma_data / total.sqrt(),
        inp=total.rsqrt(),
        noise=sigma_B.log() / 4,
    )


def edm_loss_weight(sigma_B: Tensor, sigma_data: float) -> Tensor:
    """Karras et al. 2022, table 1: `lambda(sigma)`, which gives every noise level the same share at the start."""
    return (sigma_B.square() + sigma_data**2) / (sigma_B * sigma_data).square()


def per_item(coefficient_B: Tensor, like: Tensor) -> Tensor:
    """One coefficient an item, shaped so that it multiplies a tensor with the batch as first axis."""
    return coefficient_B.reshape(-1, *(1,) * (like.dim() - 1))


def precondition(network: Callable[[Tensor, Tensor], Tensor], x: Tensor, scalings: Scalings) -> Tensor:
    """`D(x)` of a raw network `F(scaled_x, noise_B)`."""
    raw = network(per_item(scalings.inp, x) * x, scalings.noise)
    return per_item(scalings.skip, x) * x + per_item(scalings.out, x) * raw
