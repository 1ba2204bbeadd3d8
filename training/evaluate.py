"""How well a model separates: SI-SDR improvement over the mixture, by stem, on any data set or split of one.

    python -m training.evaluate --model stemline-small --data rendered/test-song rendered/test-font --steps 0 1

Axes: S stems, C channels, N samples.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tyro

from training.data.pool import StemPool
from training.metrics import chunks, is_silent, si_sdr

Audio = npt.NDArray[np.float32]
Scores = dict[str, list[float]]
RATE_HZ = 44100


def score_song(stems_SCN: Audio, estimates_SCN: Audio, names: Sequence[str]) -> Scores:
    """SI-SDR_I in dB of every 4 s chunk in which at least two stems sound; silent targets are left out.

    (Keeping them, as the published Slakh figures do, rewards a model for silence.) Averaged over channels.
    """
    mixture_CN = stems_SCN.sum(0)
    scores: Scores = {name: [] for name in names}
    for part in chunks(mixture_CN.shape[-1], RATE_HZ):
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


def mean_scores(songs: Iterable[Scores], names: Sequence[str]) -> dict[str, float]:
    """Mean over all chunks of all songs, by stem, and `mean` over bass, drums, guitar and piano."""
    songs = list(songs)
    means = {name: float(np.mean([value for song in songs for value in song[name]] or [np.nan])) for name in names}
    named = [means[name] for name in ("bass", "drums", "guitar", "piano") if name in means]
    return {**means, "mean": float(np.mean(named))}


def evaluate_folder(
    separate: Callable[[Audio], Audio], folder: Path, names: Sequence[str], limit: int | None = None
) -> dict[str, float]:
    """`separate` takes a mixture (C, N) at 44.1 kHz and gives stems (S, C, N) in the order of `names`."""
    pool = StemPool(folder, names, limit=limit)
    songs = []
    for track in pool.tracks:
        stems = np.multiply(track.transpose(0, 2, 1), 1 / 32768, dtype=np.float32)
        songs.append(score_song(stems, separate(stems.sum(0)), names))
    return mean_scores(songs, names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    model: str = "stemline-small"
    data: tuple[Path, ...]
    """Data sets or splits of them, in any layout of `training.data.datasets`."""
    steps: tuple[int, ...] = (0, 1)
    """Refiner steps to compare; 0 is the separator alone."""
    limit: int | None = None
    """Only the first so many songs of each folder."""
    json: Path | None = None
    """Write the figures here too."""


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    columns = list(next(iter(rows.values())))
    width = max(len(name) for name in rows)
    lines = [" ".join([" " * width, *(f"{column:>8}" for column in columns)])]
    lines += [
        " ".join([f"{name:<{width}}", *(f"{row[column]:8.2f}" for column in columns)]) for name, row in rows.items()
    ]
    return "\n".join(lines)


def main(arguments: Arguments) -> None:
    from training.separate import local_separator

    rows: dict[str, dict[str, float]] = {}
    for folder in arguments.data:
        for steps in arguments.steps:
            names, separate = local_separator(arguments.model, steps)
            rows[f"{folder.name}, {steps} steps"] = evaluate_folder(separate, folder, names, arguments.limit)
    print(f"SI-SDR improvement in dB, {arguments.model}, silent targets left out")
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
