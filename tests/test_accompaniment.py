"""The embedding hears what goes together; the evaluator's rows are ordered as they must be, and refuse what is not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from prior_parts import CARD, ONLY_GENERATES, RATE, STEMS, install, network

from pyserver.diffusion.joint import Known
from pyserver.diffusion.noise import normal_stream
from pyserver.engine import prior
from pyserver.engine.errors import ModelCannot
from training.accompaniments import Accompanist, Clip, Pair, Task
from training.cards import BadInput
from training.evaluate_accompaniment import Arguments, figures, main
from training.frechet import TooFewClips
from training.music_embedding import DIMENSIONS, PARTS, RATE_HZ, pair_embedding
from training.separate import LocalModel

Audio = np.ndarray[Any, Any]
SECONDS = 9.0


def tone(pitch: float, seconds: float, decay_s: float) -> Audio:
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    partials = sum(np.sin(2 * np.pi * n * 440 * 2 ** ((pitch - 69) / 12) * at) / n for n in range(1, 5))
    return partials * np.exp(-at / decay_s) * np.minimum(1, at / 0.005)


def song(seed: int) -> dict[str, Audio]:
    """Drums and bass, and a piano that has their chords and their beat; key, tempo, chords and rhythm by the seed."""
    rng = np.random.default_rng(seed)
    beat, key = rng.uniform(0.4, 0.7), int(rng.integers(12))
    chords = [(key + int(step)) % 12 for step in rng.choice([0, 5, 7, 9], 4)]
    stems = {name: np.zeros(round((SECONDS + 2) * RATE_HZ)) for name in ("drums", "bass", "piano")}

    def put(name: str, sound: Audio, at_s: float) -> None:
        at = round(at_s * RATE_HZ)
        stems[name][at : at + len(sound)] += sound

    offbeat = rng.random(4) < 0.5
    for number in range(int(SECONDS / beat)):
        at_s, root = number * beat, chords[number // 2 % 4]
        put("drums", rng.standard_normal(800) * np.exp(-np.arange(800) / 150), at_s)
        put("bass", tone(36 + root, beat, 0.3), at_s)
        for third in (0, 4, 7):
            put("piano", tone(60 + root + third, beat, 0.2) / 3, at_s + beat / 2 * offbeat[number % 4])
    gains = {name: 0.2 * 10 ** rng.uniform(-0.2, 0.2) for name in stems}
    length = round(SECONDS * RATE_HZ)
    return {name: (gains[name] * audio[:length]).clip(-1, 1).astype(np.float32) for name, audio in stems.items()}


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bands") / "val"
    for seed in range(24):
        folder = root / f"Song{seed:03}"
        folder.mkdir(parents=True)
        for stem, audio in song(seed).items():
            soundfile.write(folder / f"{stem}.flac", audio, RATE_HZ, "PCM_16")
    alone = root / "Unaccompanied"
    alone.mkdir()
    soundfile.write(alone / "vocals.flac", song(0)["piano"], RATE_HZ, "PCM_16")
    return root


def arguments(songs: Path, **changes: object) -> Arguments:
    base = {"songs": songs, "write": ("piano",), "seconds": 3.0, "clips": 3, "limit": 12, "draws": 20}
    return Arguments(**{**base, **changes})  # type: ignore[arg-type]


def parts(seed: int) -> tuple[Audio, Audio]:
    stems = song(seed)
    return stems["drums"] + stems["bass"], stems["piano"]


def test_the_level_of_both_together_is_not_heard_and_that_of_one_is_only_timbre() -> None:
    known_N, made_N = parts(0)
    whole = pair_embedding(known_N, made_N)
    assert whole.shape == (DIMENSIONS,)
    assert np.allclose(pair_embedding(0.1 * known_N, 0.1 * made_N), whole, atol=1e-4)
    louder = pair_embedding(known_N, 2 * made_N)
    assert np.abs(louder - whole)[PARTS["harmony"]].max() < 1e-4
    assert np.abs(louder - whole)[:6].max() == pytest.approx(20 * np.log10(2), abs=0.3)


def test_harmony_finds_the_transposition() -> None:
    """A piano moved up by t semitones is most like its bass when it is moved up by another 12 - t."""
    chords = [48, 53, 55, 50]
    bass_N = np.concatenate([tone(pitch, 1.0, 0.6) for pitch in chords])
    for up in (0, 1, 6):
        piano_N = np.concatenate([tone(pitch + 12 + up, 1.0, 0.6) for pitch in chords])
        harmony = pair_embedding(bass_N.astype(np.float32), piano_N.astype(np.float32))[PARTS["harmony"]]
        assert harmony.argmax() == (12 - up) % 12
        assert harmony.max() > 0.9


def clicks(rng: np.random.Generator, every_s: float, first_s: float = 0.1) -> Audio:
    audio_N = 1e-4 * rng.standard_normal(6 * RATE_HZ)
    for at_s in np.arange(first_s, 5.5, every_s):
        at = round(at_s * RATE_HZ)
        audio_N[at : at + 800] += rng.standard_normal(800) * np.exp(-np.arange(800) / 150)
    return audio_N.astype(np.float32)


def test_rhythm_hears_coincidence_and_pulse() -> None:
    rng = np.random.default_rng(0)
    known_N = clicks(rng, 0.5)
    made = {
        "true": clicks(rng, 0.5),
        "halves": clicks(rng, 0.25),
        "late": clicks(rng, 0.5, 0.3),
        "other": clicks(rng, 0.37, 0.23),
    }
    found = {name: pair_embedding(known_N, made_N)[PARTS["rhythm"]] for name, made_N in made.items()}
    together = {name: row[0] for name, row in found.items()}
    assert together["true"] > 0.7
    assert 0.3 < together["halves"] < together["true"]
    assert max(together["late"], together["other"]) < 0.3
    same_pulse = {name: row[4] for name, row in found.items()}
    assert min(same_pulse["true"], same_pulse["late"]) > 0.8
    assert same_pulse["other"] < 0.4
    assert not pair_embedding(known_N, 0 * known_N)[PARTS["rhythm"]][:6].any()


def test_what_cannot_be_described_is_refused() -> None:
    known_N, made_N = parts(0)
    for pair in ((known_N, made_N[1:]), (known_N[:30_000], made_N[:30_000]), (0 * known_N, made_N)):
        with pytest.raises(ValueError):
            pair_embedding(*pair)


def test_true_accompaniments_are_nearest_then_late_then_other_songs_then_silence(songs: Path, tmp_path: Path) -> None:
    main(arguments(songs, json=tmp_path / "figures.json"))
    found = json.loads((tmp_path / "figures.json").read_text())
    assert (found["clips"], found["songs"], found["reference_clips"]) == (36, 12, 36)
    rows = {name: {column: row[column][0] for column in row} for name, row in found["rows"].items()}
    assert list(rows) == ["true", "late", "shuffled", "silent"]
    assert rows["true"]["all"] < rows["late"]["all"] < rows["silent"]["all"]
    assert 1.5 * rows["true"]["all"] < rows["shuffled"]["all"] < rows["silent"]["all"]
    for part in ("rhythm", "harmony"):
        assert 1.5 * rows["true"][part] < rows["shuffled"][part]
    assert found["rows"]["true"]["all"][1] > 0


def test_requests_that_make_no_sense_are_refused(songs: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, object], type[Exception], str]] = [
        ({"known": ("kazoo",)}, BadInput, "kazoo"),
        ({"known": ("piano",)}, BadInput, "no stem twice"),
        ({"seconds": 2.0}, BadInput, "3 at least"),
        ({"limit": 25}, BadInput, "25 songs to accompany and 0 for the reference"),
        ({"limit": 12, "clips": 2}, TooFewClips, "24 clips are too few for a covariance of 32"),
    ]
    for changes, error, told in cases:
        with pytest.raises(error, match=told):
            figures(arguments(songs, **changes))
    install(tmp_path / "maker", ONLY_GENERATES)
    with pytest.raises(ModelCannot, match="tiny-maker cannot accompany, only generate"):
        figures(arguments(songs, model=str(tmp_path / "maker")))
    with pytest.raises(SystemExit, match="MODEL_CANNOT: model tiny-maker"):
        main(arguments(songs, model=str(tmp_path / "maker")))


def test_a_model_is_asked_as_the_server_asks_it() -> None:
    """A clip within one window: known stems at their share of the model's level, noise by step, and back."""
    rng, length, steps, seed = np.random.default_rng(0), 6000, 3, 5
    known_KN = 0.03 * rng.standard_normal((2, length)).astype(np.float32)
    task = Task(known=("drums", "bass"), write=("piano", "guitar"), seconds=3.0, clips=1)
    silence = np.zeros(1, np.float32)
    clip = Clip(known_KN, RATE, Pair(0, silence, silence))
    model = LocalModel(CARD, network(), torch.device("cpu"))
    accompanist = Accompanist(model, task, steps, seed)
    made_N = accompanist(clip, 0)

    gain = np.float32(CARD.reference_rms * np.sqrt(0.5) / np.sqrt(np.mean(known_KN.sum(0) ** 2)))
    sources, mask = torch.zeros(2, 1, 4, CARD.window_samples)
    for name, stem_N in zip(task.known, known_KN, strict=True):
        sources[0, STEMS.index(name), :length] = torch.from_numpy(stem_N * gain)
        mask[0, STEMS.index(name), :length] = 1

    def draws() -> Any:
        for step in range(steps + 1):
            stream = normal_stream(seed, 0, tuple(sources.shape), step)
            yield from (next(stream) for _ in range(2 if step else 1))

    with torch.inference_mode():
        expected = prior.accompany(model.network, CARD, Known(sources, mask), steps, draws())[0]
    written = expected[[STEMS.index(name) for name in task.write]].sum(0).numpy()[:length] / gain
    assert np.abs(made_N - written).max() < 1e-4 * np.abs(written).max()
    assert np.array_equal(accompanist(clip, 0), made_N)
    assert not np.array_equal(accompanist(clip, 1), made_N)


def test_an_untrained_model_has_a_row_of_its_own(songs: Path, tmp_path: Path) -> None:
    """It makes noise, so it is told from the songs by every part."""
    card = replace(CARD, sample_rate_hz=RATE_HZ, window_samples=36_864)  # a clip is one window
    install(tmp_path / "model", card)
    found = figures(arguments(songs, model=str(tmp_path / "model"), limit=11, steps=2, draws=5))
    rows: Any = found["rows"]
    assert list(rows) == ["true", "generated", "late", "shuffled", "silent"]
    assert (found["model"], found["steps"]) == (CARD.name, 2)
    for part in ("all", *PARTS):
        assert np.isfinite(rows["generated"][part]).all()
        assert rows["generated"][part][0] > rows["true"][part][0]
