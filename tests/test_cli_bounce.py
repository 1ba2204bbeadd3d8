"""`bounce` as a user meets it: real processes, a real server, an untrained model. Every bad input has its own words."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_tools import OUTPUTS, Home, copy_models, noise, outputs, read, require_whole, song

from pyserver.cli.exits import Exit


@pytest.fixture(scope="module")
def home(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A user whose server is running."""
    root = tmp_path_factory.mktemp("user")
    models = copy_models(tiny_model_dir, root / "models")
    damaged = models / "damaged"
    copy_models(models / "tiny-two", damaged)
    card = (damaged / "card.json").read_text().replace("tiny-two", "damaged")
    (damaged / "card.json").write_text(card)
    weights = damaged / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 0xFF
    weights.write_bytes(raw)
    user = Home(root / "home", models)
    with user.server():
        yield user


def test_stems_and_residual_sum_to_the_song(home: Home, tmp_path: Path) -> None:
    source = song(tmp_path / "a.wav")
    result = home.run("bounce", source, "-o", tmp_path / "out")
    assert result.returncode == Exit.OK, result.stderr
    assert sorted(result.stdout.split()) == sorted(str(tmp_path / "out/a" / f"{stem}.wav") for stem in OUTPUTS)
    require_whole(source, tmp_path / "out" / "a")


GOOD = {
    "8 kHz": lambda path: song(path, noise(1, 8000), 8000),
    "192 kHz": lambda path: song(path, noise(0.5, 192_000), 192_000),
    "mono": lambda path: song(path, noise(1, channels=1)),
    "6 channels": lambda path: song(path, noise(1, channels=6)),
    "24 bit": lambda path: song(path, subtype="PCM_24"),
    "flac": lambda path: song(path.with_suffix(".flac"), subtype="PCM_16"),
    "one sample": lambda path: song(path, noise(1)[:1]),
    "over full scale": lambda path: song(path, noise(0.5) * 40),
}


@pytest.mark.parametrize("kind", GOOD)
def test_every_kind_of_audio_is_separated(home: Home, tmp_path: Path, kind: str) -> None:
    source = GOOD[kind](tmp_path / "a.wav")
    result = home.run("bounce", source, "-o", tmp_path / "out")
    assert result.returncode == Exit.OK, result.stderr
    require_whole(source, tmp_path / "out" / "a")


def test_silence_gives_silent_stems(home: Home, tmp_path: Path) -> None:
    source = song(tmp_path / "a.wav", np.zeros((22050, 2), np.float32))
    assert home.run("bounce", source, "-o", tmp_path / "out").returncode == Exit.OK
    assert all(not read(path)[0].any() for path in (tmp_path / "out" / "a").iterdir())


def nothing(path: Path) -> Path:
    return path


def folder_without_audio(path: Path) -> Path:
    (path.parent / "folder").mkdir()
    (path.parent / "folder" / "readme.txt").write_text("hello")
    return path.parent / "folder"


def zero_bytes(path: Path) -> Path:
    path.touch()
    return path


def zero_samples(path: Path) -> Path:
    return song(path, np.zeros((0, 2), np.float32))


def truncated_flac(path: Path) -> Path:
    source = song(path.with_suffix(".flac"), subtype="PCM_16")
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    return source


def text(path: Path) -> Path:
    path.write_text("hello " * 100)
    return path


def with_value(value: float) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        audio = noise(1)
        audio[1234, 1] = value
        return song(path, audio)

    return make


BAD: dict[str, tuple[Callable[[Path], Path], Exit, str]] = {
    "missing": (nothing, Exit.FILE_NOT_FOUND, "does not exist"),
    "folder without audio": (folder_without_audio, Exit.NO_AUDIO_FOUND, "contains no audio files"),
    "zero bytes": (zero_bytes, Exit.EMPTY_AUDIO, "is an empty file"),
    "zero samples": (zero_samples, Exit.EMPTY_AUDIO, "contains no audio"),
    "truncated flac": (truncated_flac, Exit.TRUNCATED_AUDIO, "breaks off"),
    "NaN": (with_value(np.nan), Exit.NON_FINITE_AUDIO, "NaN at sample 1234"),
    "Inf": (with_value(np.inf), Exit.NON_FINITE_AUDIO, "Inf at sample 1234"),
    "text": (text, Exit.UNSUPPORTED_AUDIO, "is not audio"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_has_its_own_words_and_code_and_harms_no_other_song(home: Home, tmp_path: Path, kind: str) -> None:
    make, code, words = BAD[kind]
    bad, good = make(tmp_path / "bad.wav"), song(tmp_path / "good.wav")
    result = home.run("bounce", bad, good, "-o", tmp_path / "out")
    assert result.returncode == code
    assert words in result.stderr
    assert str(bad) in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good"]
    require_whole(good, tmp_path / "out" / "good")


def test_wrong_model_name_suggests_the_nearest(home: Home, tmp_path: Path) -> None:
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", "--model", "tiny-tow")
    assert result.returncode == Exit.UNKNOWN_MODEL
    assert 'did you mean "tiny-two"?' in result.stderr


def test_model_not_downloaded_names_the_command(home: Home, tmp_path: Path) -> None:
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", "--model", "dicose-unet")
    assert result.returncode == Exit.MODEL_NOT_DOWNLOADED
    assert "models pull dicose-unet" in result.stderr


def test_wrong_checksum_is_refused(home: Home, tmp_path: Path) -> None:
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", "--model", "damaged")
    assert result.returncode == Exit.WRONG_CHECKSUM
    assert "model.safetensors" in result.stderr
    assert not (tmp_path / "out").exists()


def test_unknown_stem_names_the_known_ones(home: Home, tmp_path: Path) -> None:
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", "--stems", "bass,kazoo")
    assert result.returncode == Exit.STEM_UNKNOWN
    assert "kazoo" in result.stderr
    assert "guitar" in result.stderr


def test_wrong_token_is_told_before_anything_is_sent(home: Home, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("not-the-token\n")
    token.chmod(0o600)
    record = json.loads((home.path / "run" / "server.json").read_text())
    given = ("--server", record["address"], "--token-file", token)
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", *given)
    assert result.returncode == Exit.UNTRUSTED_SERVER
    assert "token" in result.stderr


def test_chosen_stems_and_the_rest_sum_to_the_song(home: Home, tmp_path: Path) -> None:
    source = song(tmp_path / "a.wav")
    assert home.run("bounce", source, "-o", tmp_path / "out", "--stems", "drums,bass").returncode == Exit.OK
    assert outputs(tmp_path / "out" / "a") == {"bass", "drums", "residual"}
    total = sum(read(path)[0] for path in (tmp_path / "out" / "a").iterdir())
    assert np.abs(total - read(source)[0]).max() <= 1e-6


def test_flac_is_written_and_refused_where_it_would_clip(home: Home, tmp_path: Path) -> None:
    quiet, loud = song(tmp_path / "quiet.wav"), song(tmp_path / "loud.wav", noise(0.5) * 100)
    result = home.run("bounce", quiet, loud, "-o", tmp_path / "out", "--format", "flac")
    assert result.returncode == Exit.OVER_FULL_SCALE
    assert "--format wav" in result.stderr
    assert outputs(tmp_path / "out" / "quiet") == OUTPUTS
    assert not (tmp_path / "out" / "loud").exists()


def test_folder_keeps_its_structure_and_stems_are_no_songs(home: Home, tmp_path: Path) -> None:
    album = tmp_path / "album"
    for name in ("one.wav", "cd2/two.wav", ".trash/three.wav"):
        song(album / name, noise(0.2))
    for _ in range(2):
        result = home.run("bounce", album, "-o", album / "stems", "--overwrite")
        assert result.returncode == Exit.OK, result.stderr
        assert len(result.stdout.splitlines()) == 12
    assert outputs(album / "stems" / "cd2" / "two") == OUTPUTS
    assert outputs(album / "stems" / "one") == OUTPUTS


def test_songs_of_one_name_are_refused_before_work(home: Home, tmp_path: Path) -> None:
    one, two = song(tmp_path / "a.wav"), song(tmp_path / "x" / "a.wav")
    result = home.run("bounce", one, two, "-o", tmp_path / "out")
    assert result.returncode != Exit.OK
    assert "would both be written" in result.stderr
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unless_told(home: Home, tmp_path: Path) -> None:
    new, old = song(tmp_path / "new.wav"), song(tmp_path / "old.wav", noise(0.3))
    (tmp_path / "out" / "old").mkdir(parents=True)
    (tmp_path / "out" / "old" / "bass.wav").write_bytes(b"mine")
    result = home.run("bounce", new, old, "-o", tmp_path / "out")
    assert result.returncode == Exit.OUTPUT_EXISTS
    assert str(tmp_path / "out" / "old" / "bass.wav") in result.stderr
    assert not (tmp_path / "out" / "new").exists()
    assert home.run("bounce", new, old, "-o", tmp_path / "out", "--overwrite").returncode == Exit.OK
    require_whole(old, tmp_path / "out" / "old")
    third = song(tmp_path / "third.wav", noise(0.1))
    result = home.run("bounce", new, old, third, "-o", tmp_path / "out", "--skip-done")
    assert result.returncode == Exit.OK
    assert len(result.stdout.splitlines()) == 6


def test_seed_and_steps_decide_the_stems(home: Home, tmp_path: Path) -> None:
    source = song(tmp_path / "a.wav", noise(0.5))
    settings = {"a": ("--seed", 1), "b": ("--seed", 1), "c": ("--seed", 2), "d": ("--steps", 0)}
    stems = {}
    for name, extra in settings.items():
        assert home.run("bounce", source, "-o", tmp_path / name, *extra).returncode == Exit.OK
        stems[name] = (tmp_path / name / "a" / "bass.wav").read_bytes()
    assert stems["a"] == stems["b"]
    assert len(set(stems.values())) == 3
