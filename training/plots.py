"""Pictures of figures, spectrograms and curves. Needs matplotlib (`.[eval]`); draws into files only.

Axes: S stems, C channels, N samples.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy.signal import stft

from pyserver.errors import StemlineError
from training.data.pool import StemPool
from training.metrics import is_silent
from training.scores import Audio, songs_of

_DPI = 110
_RANGE_DB = 80.0
_TOP_HZ = 12000
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")


class NoSuchSong(StemlineError):
    """The song whose spectrograms were asked for is not in the set."""

    reason = "NO_SUCH_SONG"

    def __init__(self, song: str, folder: Path) -> None:
        super().__init__(f"there is no song {song!r} in {folder}", song=song, folder=folder)


def save(figure: Figure, path: Path) -> None:
    """PNGs in 128 colours, a third of the size: these pictures lie in repositories."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=_DPI)
    if path.suffix == ".png":
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(128).save(path, optimize=True)
    print(path)


def distributions(
    rows: Mapping[str, Sequence[Mapping[str, float]]], stems: Sequence[str], title: str, path: Path
) -> None:
    """A box and the songs' own figures as dots, for every stem and every row (a set with so many steps)."""
    figure = Figure(figsize=(1.6 + 1.7 * len(stems), 4.2), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(rows)
    for number, (label, songs) in enumerate(rows.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        for index, stem in enumerate(stems):
            values = np.array([song[stem] for song in songs], np.float64)
            values = values[np.isfinite(values)]
            place = index - 0.4 + width * (number + 0.5)
            axes.boxplot(
                [values], positions=[place], widths=width * 0.8, showfliers=False, medianprops={"color": colour}
            )
            spread = np.linspace(-0.3, 0.3, len(values)) if len(values) else values
            axes.plot(place + spread * width, values, ".", color=colour, markersize=4, alpha=0.7)
        axes.plot([], [], "s", color=colour, label=label)
    axes.set_xticks(range(len(stems)), stems)
    axes.set_ylabel("dB")
    axes.set_title(title, fontsize=9, wrap=True)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, path)


def spectrogram_db(audio_CN: Audio, rate_hz: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Frequencies in Hz, times in s, and the power of all channels in dB of full scale (F, T)."""
    size = 2048 if len(audio_CN.T) >= 2048 else 256
    frequency, time, spectrum = stft(audio_CN, rate_hz, nperseg=size, noverlap=size // 2)
    power = np.square(np.abs(spectrum)).mean(0)
    keep = frequency <= _TOP_HZ
    return frequency[keep], time, 10 * np.log10(power[keep] + 1e-14)


def spectrogram_grid(
    columns: Mapping[str, Audio], mixture_CN: Audio, stems: Sequence[str], rate_hz: int, title: str, path: Path
) -> None:
    """A row a stem: the mixture it is in, then each of `columns` (S, C, N); one colour scale for the whole picture."""
    shown = [index for index in range(len(stems)) if next(iter(columns.values()))[index].any()]
    figure = Figure(figsize=(2.4 * (1 + len(columns)), 0.6 + 1.45 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 1 + len(columns), sharex=True, sharey=True, squeeze=False)
    top = float(spectrogram_db(mixture_CN, rate_hz)[2].max())
    image = None
    for row, index in enumerate(shown):
        for column, (label, audio_CN) in enumerate(
            [("mixture", mixture_CN), *((label, audio_SCN[index]) for label, audio_SCN in columns.items())]
        ):
            axes: Axes = grid[row][column]
            frequency, time, level = spectrogram_db(audio_CN, rate_hz)
            image = axes.imshow(
                level,
                extent=(0, time[-1], 0, frequency[-1] / 1000),
                origin="lower",
                aspect="auto",
                vmin=top - _RANGE_DB,
                vmax=top,
                cmap="magma",
            )
            if row == 0:
                axes.set_title(label, fontsize=9)
            if column == 0:
                axes.set_ylabel(f"{stems[index]}\nkHz", fontsize=8)
            axes.tick_params(labelsize=7)
    for axes in grid[-1]:
        axes.set_xlabel("s", fontsize=8)
    if image is not None:
        figure.colorbar(image, ax=grid, label="dB", shrink=0.6)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def song_spectrograms(
    pool: StemPool,
    separators: Mapping[str, Callable[[Audio], Audio]],
    song: str,
    path: Path,
    seconds: float = 12.0,
) -> None:
    """Mixture, truth, and what each separator (keyed by its refiner steps) makes of the middle of a song.

    Without a song's name, of the one whose stems sound most. Raises NoSuchSong.
    """
    name, stems_SCN = chosen_song(pool, song, seconds)
    columns: dict[str, Audio] = {"truth": stems_SCN}
    for steps, separate in separators.items():
        label = "separator" if int(steps) == 0 else f"refined, {steps} step{'s' if int(steps) > 1 else ''}"
        columns[label] = separate(stems_SCN.sum(0))
    spectrogram_grid(columns, stems_SCN.sum(0), pool.stems, pool.rate_hz, name, path)


def chosen_song(pool: StemPool, song: str, seconds: float) -> tuple[str, Audio]:
    """The one of that name, or the one whose stems sound most of the time together."""
    found = [(name, stems_SCN) for name, stems_SCN in songs_of(pool, seconds) if not song or name == song]
    if not found:
        raise NoSuchSong(song, pool.dataset.folder)
    return max(found, key=lambda candidate: _activity(candidate[1], pool.rate_hz))


def _activity(stems_SCN: Audio, rate_hz: int) -> float:
    """How many stems sound, on average over seconds."""
    seconds = [stems_SCN[..., start : start + rate_hz] for start in range(0, stems_SCN.shape[-1], rate_hz)]
    return float(np.mean([[not is_silent(stem) for stem in second] for second in seconds])) * len(stems_SCN)


def sweep_curves(points: Mapping[int, Mapping[float, float]], separator: float, title: str, path: Path) -> None:
    """SI-SDR_I over sigma_max, a line for each number of steps, as figure 2 of DiCoSe's first version."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for number, (steps, by_sigma) in enumerate(points.items()):
        axes.plot(list(by_sigma), list(by_sigma.values()), "o-", color=_COLOURS[number % len(_COLOURS)],
                  label=f"T = {steps}", markersize=4)  # fmt: skip
    axes.axhline(separator, color="black", linestyle="--", linewidth=1, label="separator")
    axes.set_xscale("log")
    axes.set_xlabel("sigma_max")
    axes.set_ylabel("mean SI-SDR improvement, dB")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, path)


def loss_curves(runs: Mapping[str, Path], path: Path) -> None:
    """Loss (left axis) and validation (right) of each run over its steps, out of the `metrics.jsonl` in its folder."""
    figure = Figure(figsize=(4.4 * len(runs), 3.4), layout="constrained")
    for axes, (title, folder) in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs.items(), strict=True):
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        loss = {row["step"]: row["loss"] for row in rows if "loss" in row}
        marker = "-" if len(loss) > 10 else ".-"
        axes.plot(list(loss), list(loss.values()), marker, color=_COLOURS[0], linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylabel("training loss", color=_COLOURS[0])
        axes.grid(alpha=0.3)
        curves = _validation_curves(rows)
        if curves:
            other = axes.twinx()
            for number, (key, points) in enumerate(curves.items(), start=1):
                colour = _COLOURS[number % len(_COLOURS)]
                other.plot(list(points), list(points.values()), ".-", linewidth=1, color=colour, label=key)
            other.set_ylabel("validation, SI-SDR improvement, dB", fontsize=8)
            other.legend(fontsize=7)
    save(figure, path)


def _validation_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """Means by step: of a separator one curve, of a refiner one for each sampler and one for its separator."""
    curves: dict[str, dict[int, float]] = {}
    for row in rows:
        for key, value in (row.get("validation") or {}).items():
            if key in ("mean", "separator", "control") or key.startswith("sigma"):
                curves.setdefault(key, {})[row["step"]] = value
    return curves
