"""A multichannel Wiener filter: shares of a stereo mixture's bins, sharpened by where each stem stands.

After Duong, Vincent and Gribonval, "Under-determined reverberant audio source separation using a full-rank spatial
covariance model" (2010): each stem is Gaussian with power v_s(f, t) and a spatial covariance R_s(f) that is constant
in time, and the estimate is v_s R_s (sum_k v_k R_k)^-1 x. Powers are the given shares of the mixture's and stay as
they are; covariances are those of the estimates, found in a few rounds. Shares alone are what equal R_s give.

Axes: B batch, S stems, C = 2 channels, F bins, T frames. A Hermitian matrix of two rows is four numbers (K): left,
right, and real and imaginary part of left times conjugate right. A complex pair is four numbers too (Q).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SpatialConfig:
    """`reach` bins on each side lend a bin their covariances. `floor` is how much of an identity, a stem without a
    place, is mixed into each covariance of trace 2: what keeps a stem that stands at one point from being cut to it."""

    reach: int = 16
    floor: float = 0.003
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.floor <= 0:
            raise ValueError(f"a spatial filter has at least one round and a floor, not {self}")


def spatial_filter(shares_BSCFT: Tensor, mixture_BCFT: Tensor, config: SpatialConfig) -> Tensor:
    """Stems (B, S, C, F, T) that sum to the mixture. A pure function of the window, whose every frame counts for R.

    With equal channels, as of a mono song, it gives the shares of the mixture. Gradients pass through the last round,
    for given covariances.
    """
    x_BFQT = torch.stack([part for channel in mixture_BCFT.unbind(1) for part in (channel.real, channel.imag)], dim=2)
    left_BFST, right_BFST = shares_BSCFT.permute(0, 3, 1, 2, 4).contiguous().unbind(3)
    v_BFST = (left_BFST + right_BFST) / 2  # of the mixture's power, which cancels
    with torch.no_grad():
        R_BFSK = _placed(_first_covariances(left_BFST, right_BFST, x_BFQT), config)
        squared_BFST = v_BFST.square()
        for _ in range(config.rounds - 1):
            z_BFQT = _whitened(v_BFST, R_BFSK, x_BFQT)
            R_BFSK = _placed(_around_both(squared_BFST @ _outer(z_BFQT).mT, R_BFSK), config)
    z_BFQT = _whitened(v_BFST, R_BFSK, x_BFQT)
    batch, bins, stems, frames = v_BFST.shape
    filtered = (_as_real(R_BFSK) @ z_BFQT).reshape(batch, bins, stems, 2, 2, frames) * v_BFST[:, :, :, None, None]
    return torch.complex(*filtered.unbind(4)).permute(0, 2, 3, 1, 4)


def _first_covariances(left_BFST: Tensor, right_BFST: Tensor, x_BFQT: Tensor) -> Tensor:
    """(B, F, S, K) of the stems that the shares of each channel alone give."""
    left_1, right_1, real_1, imag_1 = (part[..., None] for part in _outer(x_BFQT).unbind(2))
    both = left_BFST * right_BFST
    own = left_BFST.square() @ left_1, right_BFST.square() @ right_1
    return torch.cat([*own, both @ real_1, both @ imag_1], dim=-1)


def _placed(covariances_BFSK: Tensor, config: SpatialConfig) -> Tensor:
    """Spread over neighbouring bins, brought to trace 2, and mixed with some of an identity."""
    batch, bins, stems, _ = covariances_BFSK.shape
    spread = covariances_BFSK.permute(0, 2, 3, 1).reshape(batch, stems * 4, bins)
    if config.reach:
        around = F.pad(spread, (config.reach, config.reach), mode="replicate")
        spread = F.avg_pool1d(around, 2 * config.reach + 1, 1)
    # laid out anew: a product of matrices whose rows do not lie together copies each of them for itself
    found = spread.reshape(batch, stems, 4, bins).permute(0, 3, 1, 2).contiguous()
    found = found / (found[..., :2].mean(-1, keepdim=True) + 1e-20)
    identity = found.new_tensor([1.0, 1.0, 0.0, 0.0])
    return (found + config.floor * identity) / (1 + config.floor)


def _whitened(v_BFST: Tensor, R_BFSK: Tensor, x_BFQT: Tensor) -> Tensor:
    """(sum_k v_k R_k)^-1 x."""
    left, right, real, imag = (R_BFSK.mT @ v_BFST).unbind(2)
    over = (left * right - real.square() - imag.square()).reciprocal()
    left, right, real, imag = left * over, right * over, real * over, imag * over
    left_re, left_im, right_re, right_im = x_BFQT.unbind(2)
    return torch.stack(
        [
            right * left_re - real * right_re + imag * right_im,
            right * left_im - real * right_im - imag * right_re,
            left * right_re - real * left_re - imag * left_im,
            left * right_im - real * left_im + imag * left_re,
        ],
        dim=2,
    )


def _outer(z_BFQT: Tensor) -> Tensor:
    """z times its conjugate transpose, (B, F, K, T)."""
    left_re, left_im, right_re, right_im = z_BFQT.unbind(2)
    left, right = left_re.square() + left_im.square(), right_re.square() + right_im.square()
    real = left_re * right_re + left_im * right_im
    return torch.stack([left, right, real, left_im * right_re - left_re * right_im], dim=2)


def _around_both(inner_BFSK: Tensor, R_BFSK: Tensor) -> Tensor:
    """R·inner·R: the covariance of R times what has the covariance `inner`. Written out, since libraries take matrices
    of two rows one by one."""
    a, b, c, d = R_BFSK.unbind(-1)  # left, right, and the cross term c + di
    p, s, q, r = inner_BFSK.unbind(-1)
    inside, twice, across = 2 * (c * q + d * r), 2 * c * d, c.square() - d.square()
    through, diagonal = c.square() + d.square(), a * p + b * s
    return torch.stack(
        [
            a * (a * p + inside) + through * s,
            b * (b * s + inside) + through * p,
            c * diagonal + (a * b + across) * q + twice * r,
            d * diagonal + (a * b - across) * r + twice * q,
        ],
        dim=-1,
    )


def _as_real(R_BFSK: Tensor) -> Tensor:
    """(B, F, 4S, Q): each stem's R for complex pairs that are written as four real numbers."""
    left, right, real, imag = R_BFSK.unbind(-1)
    none = torch.zeros_like(left)
    rows = (left, none, real, -imag), (none, left, imag, real), (real, imag, right, none), (-imag, real, none, right)
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2).flatten(2, 3)
