"""BSS Eval version 4: SDR, ISR, SIR and SAR in windows of a song, as museval computes them, in a fraction of its time.

An estimate is projected on all references, each through filters of `FILTER_TAPS` taps that are fitted once over the
whole song; what the stem's own reference explains is target and spatial distortion, what the others add interference,
the rest artefact (Vincent et al. 2006; Stöter, Liutkus and Ito 2018). All in float64.

Axes: S stems, C and D channels, L samples, K windows; P and Q = S·C signals, T taps, F frequencies.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import cho_factor, cho_solve, toeplitz

Array = npt.NDArray[np.floating]
Float64 = npt.NDArray[np.float64]
FILTER_TAPS = 512
_RIDGE = 1e-13  # of the mean power: a song without treble, or in mono, has a Gram matrix that is almost singular


class SilentSignal(ValueError):
    """A reference or an estimate is silent throughout, so that the projection says nothing."""


@dataclass(frozen=True, slots=True)
class BssScores:
    """dB by stem and window; NaN in windows in which any reference or estimate is digital silence, as in museval."""

    sdr_SK: Float64
    isr_SK: Float64
    sir_SK: Float64
    sar_SK: Float64


class References:
    """The references of one song, ready to judge any number of estimates of it: the costly part is done once."""

    def __init__(self, references_SCL: Array, taps: int = FILTER_TAPS) -> None:
        """Raises SilentSignal."""
        self.signals_SCL = _checked("reference", references_SCL)
        self.taps = taps
        stems, channels, length = references_SCL.shape
        self._size = next_fast_len(length + taps - 1, real=True)
        self._spectra_PF = rfft(self.signals_SCL.reshape(stems * channels, length), self._size)
        gram_PTPT = _gram(self._spectra_PF, self._size, taps)
        mine = [slice(stem * channels, (stem + 1) * channels) for stem in range(stems)]
        self._own = [_factor(gram_PTPT[part, :, part]) for part in mine]
        self._all = _factor(gram_PTPT)

    def scores(self, estimates_SCL: Array, window: int, hop: int) -> BssScores:
        """The image version with filters that do not change over the song. `window` and `hop` are in samples.

        A song shorter than one window is one window. Raises SilentSignal and, for unequal shapes, ValueError.
        """
        estimates_SCL = _checked("estimate", estimates_SCL)
        if estimates_SCL.shape != self.signals_SCL.shape:
            raise ValueError(f"references are {self.signals_SCL.shape}, estimates {estimates_SCL.shape}")
        stems, channels, length = estimates_SCL.shape
        frame = min(window, length)
        size = next_fast_len(frame + self.taps - 1, real=True)
        all_PQF, own_SCDF = (rfft(filters, size) for filters in self._filters(estimates_SCL))
        count = (length - window + hop) // hop if window < length else 1
        scores = np.full((4, stems, count), np.nan)
        for index in range(count):
            part = slice(index * hop, index * hop + frame)
            reference, estimate = self.signals_SCL[..., part], estimates_SCL[..., part]
            if _silent(reference).any() or _silent(estimate).any():
                continue
            spectra_SCF = rfft(reference, size)
            spectra_PF = spectra_SCF.reshape(stems * channels, -1)
            explained = irfft(np.einsum("pqf,pf->qf", all_PQF, spectra_PF), size).reshape(stems, channels, size)
            own = irfft(np.einsum("scdf,scf->sdf", own_SCDF, spectra_SCF), size)
            target, heard = (np.pad(x, [(0, 0), (0, 0), (0, size - frame)]) for x in (reference, estimate))
            scores[..., index] = (
                _ratio(target, heard - target),
                _ratio(target, own - target),
                _ratio(own, explained - own),
                _ratio(explained, heard - explained),
            )
        return BssScores(*scores)

    def _filters(self, estimates_SCL: Float64) -> tuple[Float64, Float64]:
        """Least squares: from every reference channel to every estimate's (P, P, T), and from a stem's own channels
        to its estimate's (S, C, C, T)."""
        stems, channels, length = estimates_SCL.shape
        signals = stems * channels
        spectra_PF = rfft(estimates_SCL.reshape(signals, length), self._size)
        towards = np.empty((signals, self.taps, signals))
        for row, column in np.ndindex(signals, signals):
            lags = irfft(spectra_PF[column] * self._spectra_PF[row].conj(), self._size)
            towards[row, :, column] = lags[: self.taps]
        own = np.empty((stems, channels, channels, self.taps))
        for stem, factor in enumerate(self._own):
            mine = slice(stem * channels, (stem + 1) * channels)
            own[stem] = _solved(factor, towards[mine, :, mine]).swapaxes(1, 2)
        return _solved(self._all, towards).swapaxes(1, 2), own


def bss_eval(references_SCL: Array, estimates_SCL: Array, window: int, hop: int) -> BssScores:
    """`References.scores` of a single estimate."""
    return References(references_SCL).scores(estimates_SCL, window, hop)


def _checked(name: str, signals_SCL: Array) -> Float64:
    for index in np.flatnonzero(_silent(signals_SCL)):
        raise SilentSignal(f"{name} {index} is silent throughout")
    return signals_SCL.astype(np.float64)


def _silent(signals_SCL: Array) -> npt.NDArray[np.bool_]:
    """(S): the sum over channels is zero at every sample, which is museval's rule."""
    return np.asarray(~signals_SCL.sum(1).any(-1))


def _ratio(signal_SCL: Float64, error_SCL: Float64) -> Float64:
    power, error = (np.square(x).sum((1, 2)) for x in (signal_SCL, error_SCL))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(power / error))


def _gram(spectra_PF: npt.NDArray[np.complexfloating], size: int, taps: int) -> Float64:
    """(P, T, P, T): inner products of all delayed references."""
    signals = len(spectra_PF)
    gram = np.empty((signals, taps, signals, taps))
    for row in range(signals):
        for column in range(row, signals):
            lags = irfft(spectra_PF[column] * spectra_PF[row].conj(), size)
            block = toeplitz(lags[:taps], np.concatenate([lags[:1], lags[:-taps:-1]]))
            gram[column, :, row], gram[row, :, column] = block.T, block
    return gram


def _factor(gram_PTPT: Float64) -> tuple[Float64, bool]:
    """Cholesky, with the smallest ridge that makes the matrix definite."""
    side = gram_PTPT.shape[0] * gram_PTPT.shape[1]
    gram = gram_PTPT.reshape(side, side)
    ridge = _RIDGE * float(np.trace(gram)) / side
    while True:
        regular = gram.copy(order="F")
        regular[np.diag_indices(side)] += ridge
        try:
            factor: tuple[Float64, bool] = cho_factor(regular, lower=True, overwrite_a=True, check_finite=False)
            return factor
        except np.linalg.LinAlgError:
            ridge *= 100


def _solved(factor: tuple[Float64, bool], right_PTQ: Float64) -> Float64:
    flat = right_PTQ.reshape(len(factor[0]), -1)
    return np.asarray(cho_solve(factor, flat, check_finite=False)).reshape(right_PTQ.shape)
