"""What `training.evaluate` measures: scores of a song by metric and stem, and their summary over a set of songs.

Axes: S stems, C channels, N samples.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.bss_eval import References
from training.data.pool import StemPool
from training.metrics import chunks, is_silent, msdm_scores, si_sdr

Audio = npt.NDArray[np.float32]
Scores = dict[str, list[float]]
"""By stem, a value in dB for every chunk or window that counts."""
RATE_HZ = 44100


@dataclass(frozen=True, slots=True)
class Metric:
    """How a column of figures comes about. `median`: over a song's windows, then over songs; else the mean of all."""

    title: str
    median: bool


METRICS = {
    "si_sdr_i": Metric(
        "SI-SDR improvement over the mixture in dB, 4 s chunks every 2 s, silent targets left out", median=False
    ),
    "si_sdr_i_published": Metric(
        "SI-SDR improvement in dB as MSDM and DiCoSe publish it: silent targets are kept, which rewards silence",
        median=False,
    ),
    "sdr": Metric("SDR in dB, BSS Eval 4, windows of 1 s, median over windows, then over songs", median=True),
    "isr": Metric("ISR in dB, likewise", median=True),
    "sir": Metric("SIR in dB, likewise", median=True),
    "sar": Metric("SAR in dB, likewise", median=True),
    "museval_sdr": Metric("SDR in dB by museval", median=True),
    "museval_isr": Metric("ISR in dB by museval", median=True),
    "museval_sir": Metric("SIR in dB by museval", median=True),
    "museval_sar": Metric("SAR in dB by museval", median=True),
}


def score_song(stems_SCN: Audio, estimates_SCN: Audio, names: Sequence[str], rate_hz: int = RATE_HZ) -> Scores:
    """SI-SDR_I in dB of every 4 s chunk in which at least two stems sound; silent targets are left out.

    (Keeping them, as the published Slakh figures do, rewards a model for silence.) Averaged over channels.
    """
    mixture_CN = stems_SCN.sum(0)
    scores: Scores = {name: [] for name in names}
    for part in chunks(mixture_CN.shape[-1], rate_hz):
        # both channels as one signal, so that a stem sounds at the same level in mono and in stereo
        sounding = [not is_silent(stem[:, part].ravel()) for stem in stems_SCN]
        if sum(sounding) < 2:
            continue
        for index, name in enumerate(names):
            if sounding[index]:
                values = [
                    si_sdr(estimate[part], stem[part]) - si_sdr(mixture[part], stem[part])
                    for estimate, stem, mixture in zip(estimates_SCN[index], stems_SCN[index], mixture_CN, strict=True)
                    if not is_silent(stem[part])
                ]
                scores[name].append(float(np.mean(values)))
    return scores


def published_scores(stems_SCN: Audio, estimates_SCN: Audio, names: Sequence[str], rate_hz: int = RATE_HZ) -> Scores:
    """SI-SDR_I of the MSDM protocol, in which a stem that is silent in a kept chunk counts (see `msdm_scores`)."""
    values_SK = msdm_scores(estimates_SCN, stems_SCN, rate_hz).improvement_SK
    return {name: [float(value) for value in row] for name, row in zip(names, values_SK, strict=True)}


BssEval = Callable[[Audio, Sequence[Audio], int], list[Sequence[npt.NDArray[np.floating]]]]
"""(references, estimates, window and hop in samples) → for each of the estimates SDR, ISR, SIR, SAR, each (S, K)."""
Group = Callable[[Audio, Sequence[Audio], Sequence[str], int], list[dict[str, Scores]]]
"""(stems, estimates, names, rate in Hz) → for each of the estimates the scores by metric."""


def own_bss_eval(
    references_SCN: Audio, estimates: Sequence[Audio], window: int
) -> list[Sequence[npt.NDArray[np.floating]]]:
    references = References(references_SCN)
    found = [references.scores(estimate_SCN, window, window) for estimate_SCN in estimates]
    return [(one.sdr_SK, one.isr_SK, one.sir_SK, one.sar_SK) for one in found]


def museval_bss_eval(
    references_SCN: Audio, estimates: Sequence[Audio], window: int
) -> list[Sequence[npt.NDArray[np.floating]]]:
    """The second opinion, and the slow one. Raises ImportError, or RuntimeError where ffmpeg is missing."""
    import museval.metrics

    reference_SNC, *rest = (np.moveaxis(x.astype(np.float64), 1, 2) for x in (references_SCN, *estimates))
    return [museval.metrics.bss_eval(reference_SNC, one, window=window, hop=window)[:4] for one in rest]


def bss_scores(
    stems_SCN: Audio,
    estimates: Sequence[Audio],
    names: Sequence[str],
    rate_hz: int,
    evaluate: BssEval = own_bss_eval,
    prefix: str = "",
) -> list[dict[str, Scores]]:
    """`sdr`, `isr`, `sir`, `sar` in windows of 1 s. Stems that are silent all through the song are left out of it.

    So are stems for which an estimate is digital silence: BSS Eval says nothing about them, nor of songs of one stem.
    """
    keys = [f"{prefix}{key}" for key in ("sdr", "isr", "sir", "sar")]
    scores: list[dict[str, Scores]] = [{key: {name: [] for name in names} for key in keys} for _ in estimates]
    heard = [
        index
        for index, stem in enumerate(stems_SCN)
        if all(x.sum(0).any() for x in (stem, *(e[index] for e in estimates)))
    ]
    if len(heard) > 1:
        judged = evaluate(stems_SCN[heard], [estimate_SCN[heard] for estimate_SCN in estimates], rate_hz)
        for score, ratios in zip(scores, judged, strict=True):
            for key, values_SK in zip(keys, ratios, strict=True):
                for index, row in zip(heard, values_SK, strict=True):
                    score[key][names[index]] = [float(value) for value in row[np.isfinite(row)]]
    return scores


def _museval_scores(
    stems_SCN: Audio, estimates: Sequence[Audio], names: Sequence[str], rate_hz: int
) -> list[dict[str, Scores]]:
    return bss_scores(stems_SCN, estimates, names, rate_hz, museval_bss_eval, "museval_")


def _one_by_one(key: str, score: Callable[[Audio, Audio, Sequence[str], int], Scores]) -> Group:
    def scores(
        stems_SCN: Audio, estimates: Sequence[Audio], names: Sequence[str], rate_hz: int
    ) -> list[dict[str, Scores]]:
        return [{key: score(stems_SCN, estimate_SCN, names, rate_hz)} for estimate_SCN in estimates]

    return scores


GROUPS: dict[str, Group] = {
    "si-sdr-i": _one_by_one("si_sdr_i", score_song),
    "published": _one_by_one("si_sdr_i_published", published_scores),
    "bss": bss_scores,
    "museval": _museval_scores,
}
"""What can be asked for, cheap ones first."""


def headline(names: Sequence[str]) -> list[str]:
    """The stems whose average is the figure of a model: MSDM's four, or for MUSDB's models all."""
    four = [name for name in ("bass", "drums", "guitar", "piano") if name in names]
    return four if {"guitar", "piano"} & set(names) else list(names)


def mean_scores(songs: Iterable[Scores], names: Sequence[str]) -> dict[str, float]:
    """Mean over all chunks of all songs, by stem, and `mean` over the stems of the headline."""
    songs = list(songs)
    means = {name: float(np.mean([value for song in songs for value in song[name]] or [np.nan])) for name in names}
    return {**means, "mean": float(np.mean([means[name] for name in headline(names)]))}


def median_scores(songs: Iterable[Scores], names: Sequence[str]) -> dict[str, float]:
    """Median over a song's windows, then over the songs in which the stem has any; `mean` as in `mean_scores`."""
    songs = list(songs)
    windows = {name: [float(np.median(song[name])) for song in songs if song[name]] for name in names}
    medians = {name: float(np.median(values)) if values else float("nan") for name, values in windows.items()}
    return {**medians, "mean": float(np.mean([medians[name] for name in headline(names)]))}


@dataclass(slots=True)
class SetScores:
    """Scores of one set of songs, of one way to separate them."""

    names: tuple[str, ...]
    songs: dict[str, dict[str, Scores]] = field(default_factory=dict)

    def summary(self, songs: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
        """By metric, by stem, with `mean`; of all songs, or of some."""
        chosen = [self.songs[name] for name in (songs if songs is not None else self.songs)]
        return {
            key: (median_scores if METRICS[key].median else mean_scores)([song[key] for song in chosen], self.names)
            for key in (chosen[0] if chosen else ())
        }

    def by_song(self) -> dict[str, dict[str, dict[str, float]]]:
        return {song: self.summary([song]) for song in self.songs}


def songs_of(pool: StemPool, seconds: float | None = None) -> Iterator[tuple[str, Audio]]:
    """Name and stems (S, C, N) of each song, of which only the middle `seconds` if that is given."""
    for name, track_SNC in zip(pool.names, pool.tracks, strict=True):
        wanted = min(track_SNC.shape[1], round(seconds * pool.rate_hz) if seconds else track_SNC.shape[1])
        start = (track_SNC.shape[1] - wanted) // 2
        part_SNC = track_SNC[:, start : start + wanted]
        yield name.split("/", 1)[1], np.multiply(part_SNC.transpose(0, 2, 1), 1 / 32768, dtype=np.float32)


def score_set(
    separators: Mapping[str, Callable[[Audio], Audio]],
    songs: Iterable[tuple[str, Audio]],
    names: Sequence[str],
    groups: Sequence[str] = ("si-sdr-i",),
    rate_hz: int = RATE_HZ,
) -> dict[str, SetScores]:
    """Each separator, by its label, takes a mixture (C, N) and gives (S, C, N) in the order of `names`."""
    scores = {label: SetScores(tuple(names)) for label in separators}
    for song, stems_SCN in songs:
        estimates = [separate(stems_SCN.sum(0)) for separate in separators.values()]
        for found in scores.values():
            found.songs[song] = {}
        for group in groups:
            for found, values in zip(scores.values(), GROUPS[group](stems_SCN, estimates, names, rate_hz), strict=True):
                found.songs[song] |= values
    return scores


def evaluate_folder(
    separate: Callable[[Audio], Audio], folder: Path, names: Sequence[str], limit: int | None = None
) -> dict[str, float]:
    """SI-SDR_I of the songs in `folder`. `separate` takes a mixture (C, N) at 44.1 kHz and gives (S, C, N)."""
    pool = StemPool(folder, names, limit=limit)
    return score_set({"": separate}, songs_of(pool), names)[""].summary()["si_sdr_i"]
