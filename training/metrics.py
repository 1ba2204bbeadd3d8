"""SI-SDR, SDR and the chunked protocols of MSDM and of DiCoSe's published evaluation.

All in dB and in float64. Axes: S stems, C channels, K chunks, L samples; a mixture is the sum of the references.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Float64 = npt.NDArray[np.float64]
EPSILON = 1e-8
SDR_EPSILON = 1e-5
FLOAT32_EPSILON = float(np.finfo(np.float32).eps)
SILENCE = 1.5e-5
SILENT_RMS = 1e-10


def _flat(signal: Array) -> Float64:
    return signal.astype(np.float64).ravel()


def si_sdr(estimate: Array, reference: Array, epsilon: float = EPSILON) -> float:
    """Scale-invariant SDR in dB over all samples of one chunk, without mean removal (MSDM's definition).

    torchmetrics' is the same with `FLOAT32_EPSILON`. A flipped sign costs nothing.
    """
    estimate, reference = _flat(estimate), _flat(reference)
    scale = (estimate @ reference + epsilon) / (reference @ reference + epsilon)
    target = scale * reference
    error = target - estimate
    return float(10 * np.log10((target @ target + epsilon) / (error @ error + epsilon)))


def si_snr(estimate: Array, reference: Array) -> float:
    """SI-SDR of signals whose mean has been removed, as in torchmetrics."""
    estimate, reference = _flat(estimate), _flat(reference)
    return si_sdr(estimate - estimate.mean(), reference - reference.mean(), FLOAT32_EPSILON)


def sdr(estimate: Array, reference: Array) -> float:
    """Reference to error, with an epsilon that keeps silent references finite."""
    estimate, reference = _flat(estimate), _flat(reference)
    error = reference - estimate
    return float(10 * np.log10((reference @ reference + SDR_EPSILON) / (error @ error + SDR_EPSILON)))


def rms_db(signal: Array) -> float:
    """Level in dB of full scale; -200 for digital silence."""
    return float(20 * np.log10(np.sqrt(np.mean(np.square(_flat(signal)))) + SILENT_RMS))


def is_silent(signal: Array) -> bool:
    """MSDM's rule: Euclidean norm over the number of samples of a channel (not its root). (..., L)."""
    return bool(np.linalg.norm(_flat(signal)) / signal.shape[-1] < SILENCE)


def chunks(num_samples: int, sample_rate_hz: int, length_s: float = 4.0, overlap_s: float = 2.0) -> Iterator[slice]:
    """4 s windows every 2 s; the last one may be shorter."""
    length, overlap = int(length_s * sample_rate_hz), int(overlap_s * sample_rate_hz)
    step = length - overlap
    for index in range(max(1, -(-(num_samples - overlap) // step))):
        yield slice(index * step, min(index * step + length, num_samples))


def audible_chunks(references_SCL: Array, sample_rate_hz: int) -> Iterator[slice]:
    """Chunks in which at least two stems sound; the others say nothing about separation."""
    for part in chunks(references_SCL.shape[-1], sample_rate_hz):
        if sum(not is_silent(reference[..., part]) for reference in references_SCL) > 1:
            yield part


def si_sdr_improvement(estimate_CL: Array, reference_CL: Array, mixture_CL: Array) -> float:
    """SI-SDR of the estimate less that of the mixture, each averaged over channels."""
    pairs = zip(estimate_CL, reference_CL, mixture_CL, strict=True)
    gains = [si_sdr(estimate, reference) - si_sdr(mixture, reference) for estimate, reference, mixture in pairs]
    return float(np.mean(gains))


@dataclass(frozen=True, slots=True)
class ChunkScores:
    """SI-SDR_I of every stem in every chunk that counts."""

    parts: tuple[slice, ...]
    improvement_SK: Float64


def msdm_scores(
    estimates_SCL: Array, references_SCL: Array, sample_rate_hz: int, *, drop_lonely: bool = True
) -> ChunkScores:
    """The MSDM protocol: chunks in which at most one source sounds are dropped for every stem, nothing else is.

    A stem that is silent in a kept chunk counts, with the improvement that the epsilons give it.
    """
    every = chunks(references_SCL.shape[-1], sample_rate_hz)
    parts = tuple(audible_chunks(references_SCL, sample_rate_hz) if drop_lonely else every)
    mixture_CL = references_SCL.sum(0)
    scores = [
        [si_sdr_improvement(estimate[:, part], reference[:, part], mixture_CL[:, part]) for part in parts]
        for estimate, reference in zip(estimates_SCL, references_SCL, strict=True)
    ]
    return ChunkScores(parts, np.array(scores, np.float64).reshape(len(references_SCL), len(parts)))


REFINER_METRICS = ("si_snr", "si_sdr", "msdm_si_sdr", "sdr", "sdr_silent", "output_rms_silent")


def refiner_scores(
    estimates_SCL: Array, references_SCL: Array, sample_rate_hz: int, *, include_silent: bool
) -> list[dict[str, list[float]]]:
    """DiCoSe's published evaluation of one item: for every stem, each of `REFINER_METRICS` in the chunks it is for.

    `include_silent` keeps silent stems in `msdm_si_sdr`, as the published Slakh figures do (which rewards a model for
    silence); the MUSDB figures leave them out. `si_snr` and `si_sdr` leave them out always, `sdr` never.
    """
    scores: list[dict[str, list[float]]] = [{name: [] for name in REFINER_METRICS} for _ in references_SCL]
    mixture_CL = references_SCL.sum(0)
    for part in audible_chunks(references_SCL, sample_rate_hz):
        for stem, score in enumerate(scores):
            estimate, reference = estimates_SCL[stem][:, part], references_SCL[stem][:, part]
            channels = list(zip(estimate, reference, strict=True))
            score["sdr"].append(float(np.mean([sdr(*channel) for channel in channels])))
            silent = is_silent(reference)
            if silent:
                score["sdr_silent"].append(score["sdr"][-1])
                score["output_rms_silent"].append(rms_db(estimate))
            else:
                score["si_snr"].append(float(np.mean([si_snr(*channel) for channel in channels])))
                score["si_sdr"].append(float(np.mean([si_sdr(*channel, FLOAT32_EPSILON) for channel in channels])))
            if include_silent or not silent:
                score["msdm_si_sdr"].append(si_sdr_improvement(estimate, reference, mixture_CL[:, part]))
    return scores


def silent_frame_scores(
    estimates_SCL: Array, references_SCL: Array, sample_rate_hz: int
) -> list[dict[str, list[float]]]:
    """SIR and SAR in the whole 1 s frames in which a stem's reference is silent, where BSSEval says nothing.

    The estimate is projected on all references of the frame, by least squares and without filters.
    """
    scores: list[dict[str, list[float]]] = [{"SIR": [], "SAR": []} for _ in references_SCL]
    for start in range(0, references_SCL.shape[-1] - sample_rate_hz + 1, sample_rate_hz):
        frame_SCL = references_SCL[..., start : start + sample_rate_hz].astype(np.float64)
        for stem, score in enumerate(scores):
            # as published, this silence is over the samples of all channels together
            if not is_silent(frame_SCL[stem].ravel()):
                continue
            estimate_CL = estimates_SCL[stem][:, start : start + sample_rate_hz].astype(np.float64)
            ratios = [
                _projected_ratios(estimate, frame_SCL[:, channel], stem) for channel, estimate in enumerate(estimate_CL)
            ]
            for name, value in zip(("SIR", "SAR"), np.mean(ratios, axis=0), strict=True):
                score[name].append(float(value))
    return scores


def _projected_ratios(estimate: Float64, references_SL: Float64, stem: int) -> tuple[float, float]:
    """SIR and SAR in dB of one channel."""
    gram = references_SL @ references_SL.T + EPSILON * np.eye(len(references_SL))
    projected = np.linalg.solve(gram, references_SL @ estimate) @ references_SL
    own = references_SL[stem]
    target = (estimate @ own) / (own @ own + EPSILON) * own
    interference, artefacts = projected - target, estimate - projected

    def decibel(signal: Float64, error: Float64) -> float:
        return float(10 * np.log10((signal @ signal + EPSILON) / (error @ error + EPSILON)))

    return decibel(target, interference), decibel(projected, artefacts)


def mean_over_stems(scores: list[list[float]]) -> float:
    """Mean over stems of each stem's mean over its chunks; a stem without any counts as 0, as published."""
    return float(np.mean([np.mean(values) if values else 0.0 for values in scores]))
