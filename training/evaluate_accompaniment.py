"""How well accompaniments go with what they accompany, as a Fréchet distance:

    python -m training.evaluate_accompaniment --model models/msdm-small --songs rendered/val \\
      --known drums bass --write piano guitar

Clips of some songs against the true pairs of all others, by the embedding of `training.music_embedding`, each number of
it in standard deviations of the reference. Rows: the songs' own accompaniments, the model's, and three that are wrong
in a known way. All rows have the same clips, so that their distances may be compared. Without a model: the other rows.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tyro
from rich import progress

from pyserver.errors import StemlineError
from training.accompaniments import Accompanist, Clip, Pair, Task, clips_of, late, shuffled, silent
from training.cards import BadInput
from training.data.datasets import CLASSES, Song, open_dataset
from training.frechet import Float64, Gaussian, TooFewClips, bootstrap_spread, frechet_distance, gaussian, moments
from training.music_embedding import DIMENSIONS, PARTS, pair_embedding
from training.separate import local_model

COLUMNS = {"all": slice(0, DIMENSIONS), **PARTS}
Rows = dict[str, dict[str, tuple[float, float]]]
"""By row and column: distance and spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    songs: Path
    """A folder of songs, such as the validation split."""
    model: str | None = None
    """A model of the catalogue, or the folder of one; without it only the songs' own stems are compared."""
    known: tuple[str, ...] = ("drums", "bass")
    write: tuple[str, ...] = ("piano", "guitar")
    limit: int = 16
    """The first so many songs are accompanied; those after them are the reference."""
    reference: Path | None = None
    """Another folder of songs for the reference, such as the training split."""
    reference_limit: int = 200
    seconds: float = 6.0
    """Of a clip, at least 3."""
    clips: int = 4
    """Of a song, at most."""
    steps: int | None = None
    """Of the model; instead of the card's own."""
    seed: int = 0
    draws: int = 100
    """Of the bootstrap."""
    json: Path | None = None
    """Where to write the figures."""


def task_of(arguments: Arguments) -> Task:
    """Raises BadInput for stems that no song has, for none, for one that is both known and written, and for clips too
    short to be described."""
    stems = (*arguments.known, *arguments.write)
    strangers = [stem for stem in stems if stem not in CLASSES]
    if strangers:
        raise BadInput(f"songs have no stem {strangers[0]}, only {', '.join(CLASSES)}")
    if not arguments.known or not arguments.write or len(set(stems)) < len(stems):
        raise BadInput("--known and --write want a stem each at least, and no stem twice")
    if arguments.seconds < 3 or arguments.clips < 1:
        raise BadInput(f"--clips wants 1, --seconds 3 at least, not {arguments.clips} and {arguments.seconds:g}")
    return Task(known=arguments.known, write=arguments.write, seconds=arguments.seconds, clips=arguments.clips)


def split(arguments: Arguments) -> tuple[list[Song], list[Song]]:
    """The songs to be accompanied and the others. Raises BadInput where that leaves too few."""
    songs = open_dataset(arguments.songs).songs()
    held_out, others = songs[: arguments.limit], songs[arguments.limit :]
    if arguments.reference is not None:
        own = {song.path.resolve() for song in held_out}
        others = [song for song in open_dataset(arguments.reference).songs() if song.path.resolve() not in own]
    if len(held_out) < 2 or not others:
        raise BadInput(
            f"{len(held_out)} songs to accompany and {len(others)} for the reference: two and one are the least; "
            "a smaller --limit, or a folder for --reference"
        )
    return held_out, others[: arguments.reference_limit]


def clips(songs: Sequence[Song], task: Task, what: str) -> Iterator[Clip]:
    """One song in memory at a time."""
    shown = progress.track(songs, what, transient=True, disable=len(songs) < 10)
    return (clip for number, song in enumerate(shown) for clip in clips_of(song, number, task))


def embeddings(pairs: Iterable[Pair]) -> Float64:
    """(P, D). Raises TooFewClips where that is no set for a covariance."""
    found = [pair_embedding(each.known_N, each.made_N) for each in pairs]
    if len(found) <= DIMENSIONS:
        raise TooFewClips(len(found), DIMENSIONS)
    return np.stack(found)


def rows_of(held_out: Sequence[Clip], accompanist: Accompanist | None, seed: int) -> dict[str, list[Pair]]:
    """Pairs by the row's name, of the same clips in every row. Raises TooFewClips before a model is asked for them."""
    true = [clip.true for clip in held_out]
    if len(true) <= DIMENSIONS:
        raise TooFewClips(len(true), DIMENSIONS)
    if len({each.song for each in true}) < 2:
        raise BadInput("clips of one song only: there is no other accompaniment to shuffle with")
    rows = {"true": true}
    if accompanist is not None:
        shown = progress.track(held_out, "accompanying", transient=True)
        rows["generated"] = [clip.with_made(accompanist(clip, number)) for number, clip in enumerate(shown)]
    return {
        **rows,
        "late": late(true),
        "shuffled": shuffled(true, np.random.default_rng(seed)),
        "silent": silent(true),
    }


def distances(reference_PD: Float64, rows: dict[str, list[Pair]], draws: int) -> Rows:
    """Of every row to the reference, in units of the reference's variance in each dimension."""
    mean_D, scale_D = reference_PD.mean(0), reference_PD.std(0).clip(min=1e-6)
    reference = gaussian((reference_PD - mean_D) / scale_D)
    found: Rows = {}
    for name, pairs in rows.items():
        scaled_PD = (embeddings(pairs) - mean_D) / scale_D
        songs_P = np.array([each.song for each in pairs])
        found[name] = {
            column: _distance_and_spread(reference.of(part), scaled_PD[:, part], songs_P, draws)
            for column, part in COLUMNS.items()
        }
    return found


def _distance_and_spread(
    reference: Gaussian, scaled_PD: Float64, songs_P: npt.NDArray[np.int64], draws: int
) -> tuple[float, float]:
    def measure(chosen_PD: Float64) -> float:
        return frechet_distance(reference, moments(chosen_PD))

    spread = bootstrap_spread(scaled_PD, songs_P, measure, np.random.default_rng(0), draws)
    return measure(scaled_PD), spread


def figures(arguments: Arguments) -> dict[str, object]:
    """What is printed, as values. Raises BadInput, TooFewClips, ModelCannot and what reading songs raises."""
    task = task_of(arguments)
    accompanist = None
    if arguments.model is not None:  # refused before songs are read
        model = local_model(arguments.model)
        accompanist = Accompanist(model, task, arguments.steps, arguments.seed)
    mine, others = split(arguments)
    reference_PD = embeddings(clip.true for clip in clips(others, task, "reading the reference"))
    held_out = list(clips(mine, task, "reading songs"))
    rows = rows_of(held_out, accompanist, arguments.seed)
    document: dict[str, object] = {
        "known": task.known,
        "write": task.write,
        "clips": len(held_out),
        "songs": len({clip.true.song for clip in held_out}),
        "reference_clips": len(reference_PD),
        "rows": distances(reference_PD, rows, arguments.draws),
    }
    if accompanist is not None:
        document |= {"model": model.card.name, "weights_sha256": model.card.weights_sha256, "steps": accompanist.steps}
    return document


def main(arguments: Arguments) -> None:
    try:
        found = figures(arguments)
    except StemlineError as error:
        raise SystemExit(f"{error.reason}: {error}") from error
    known, write = ", ".join(arguments.known), ", ".join(arguments.write)
    print(
        f"{write} for {known}: {found['clips']} clips against {found['reference_clips']}; ± standard deviation by songs"
    )
    print(f"{'':12}" + "".join(f"{column:>17}" for column in COLUMNS))
    rows = found["rows"]
    assert isinstance(rows, dict)
    for name, row in rows.items():
        print(f"{name:12}" + "".join(f"{row[column][0]:9.2f} ± {row[column][1]:5.2f}" for column in COLUMNS))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
