"""One definition of the STFT for every spectral model: Hann window, centred, reflect padding, not normalised."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class StftSpec:
    n_fft: int
    hop_length: int
    win_length: int

    def frames(self, num_samples: int) -> int:
        return num_samples // self.hop_length + 1


def stft(x: Tensor, spec: StftSpec) -> Tensor:
    """(..., L) real → (..., F, T) complex, with F = n_fft / 2 + 1 and T = L // hop_length + 1."""
    window = torch.hann_window(spec.win_length, device=x.device, dtype=x.dtype)
    flat = torch.stft(
        x.reshape(-1, x.shape[-1]),
        spec.n_fft,
        spec.hop_length,
        spec.win_length,
        window,
        center=True,
        return_complex=True,
    )
    return flat.reshape(*x.shape[:-1], *flat.shape[1:])


def istft(x: Tensor, spec: StftSpec, length: int) -> Tensor:
    """(..., F, T) complex → (..., length) real, the inverse of `stft`."""
    window = torch.hann_window(spec.win_length, device=x.device, dtype=x.real.dtype)
    flat = torch.istft(
        x.reshape(-1, *x.shape[-2:]), spec.n_fft, spec.hop_length, spec.win_length, window, center=True, length=length
    )
    return flat.reshape(*x.shape[:-2], length)
