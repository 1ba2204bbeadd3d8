"""Files are read and written exactly, every defect has its own error, and what stands at a path is complete."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pyserver.audio import files
from pyserver.errors import DiskFull

RATE = 22050


def noise(frames: int, channels: int = 2, scale: float = 0.1) -> files.Block:
    return (np.random.default_rng(0).standard_normal((frames, channels)) * scale).astype(np.float32)


def write(path: Path, blocks: list[files.Block], kind: str = "wav") -> None:
    channels = blocks[0].shape[1]
    with files.AudioWriter(path, RATE, channels, sum(map(len, blocks)), kind) as writer:
        for block in blocks:
            writer.write(block)


def write_then_be_interrupted(path: Path) -> None:
    with files.AudioWriter(path, RATE, 2, 100) as writer:
        writer.write(noise(50))
        raise KeyboardInterrupt


def read_all(path: Path, frames: int = 1000) -> files.Block:
    return np.concatenate(list(files.AudioFile(path).blocks(frames)))


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8000, 44100, 192_000])
def test_float_wav_comes_back_bit_for_bit(tmp_path: Path, channels: int, rate: int) -> None:
    audio = noise(5000, channels, scale=2.0)
    with files.AudioWriter(tmp_path / "a.wav", rate, channels, 5000) as writer:
        for start in range(0, 5000, 777):
            writer.write(audio[start : start + 777])
    file = files.AudioFile(tmp_path / "a.wav")
    assert (file.sample_rate_hz, file.channels, file.num_samples) == (rate, channels, 5000)
    np.testing.assert_array_equal(read_all(tmp_path / "a.wav"), audio)


def test_same_audio_is_the_same_bytes_at_any_time(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        write(tmp_path / name, [noise(1000)])
        time.sleep(1.1)  # the clock in a header of libsndfile counts seconds
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_flac_is_exact_to_24_bits(tmp_path: Path) -> None:
    audio = noise(5000)
    with files.AudioWriter(tmp_path / "a.flac", RATE, 2, 5000, "flac") as writer:
        writer.write(audio)
    assert np.abs(read_all(tmp_path / "a.flac") - audio).max() <= 2**-23


def test_flac_refuses_what_it_would_clip(tmp_path: Path) -> None:
    audio = noise(10)
    audio[3] = 1.5
    with pytest.raises(files.OverFullScale, match=r"3\.5 dB"):
        write(tmp_path / "a.flac", [audio], "flac")
    assert list(tmp_path.iterdir()) == []


def test_wav_over_4_gb_is_rf64(tmp_path: Path) -> None:
    with files.AudioWriter(tmp_path / "a.wav", RATE, 2, 1 << 30) as writer:
        writer.write(noise(100))
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RF64"
    assert files.AudioFile(tmp_path / "a.wav").num_samples == 100


@pytest.mark.parametrize(("subtype", "step"), [("PCM_16", 2**-15), ("PCM_24", 2**-23), ("FLOAT", 0), ("DOUBLE", 1e-7)])
def test_wav_of_every_width_is_read(tmp_path: Path, subtype: str, step: float) -> None:
    audio = noise(3000)
    soundfile.write(tmp_path / "a.wav", audio, RATE, subtype)
    assert np.abs(read_all(tmp_path / "a.wav") - audio).max() <= step


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(files.AudioFileMissing, match="does not exist"):
        files.AudioFile(tmp_path / "no.wav")
    with pytest.raises(files.AudioFileMissing, match="is a directory"):
        files.AudioFile(tmp_path)


def test_text_is_not_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("hello" * 100)
    with pytest.raises(files.NotAudio, match=r"a\.wav is not audio"):
        files.AudioFile(tmp_path / "a.wav")


def test_zero_length_file_and_zero_samples(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(files.EmptyAudio, match="empty file"):
        files.AudioFile(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.zeros((0, 2)), RATE)
    with pytest.raises(files.EmptyAudio, match="no audio"):
        files.AudioFile(tmp_path / "b.wav")


@pytest.mark.parametrize("name", ["a.flac", "a.wav"])
@pytest.mark.parametrize("part", [0.5, 0.95])
def test_truncated_file_says_where_it_ends(tmp_path: Path, name: str, part: float) -> None:
    soundfile.write(tmp_path / name, noise(50_000), RATE)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(files.TruncatedAudio, match=r"promises 2\.268 s, the data ends at") as caught:
        files.AudioFile(tmp_path / name).check()
    assert int(caught.value.metadata["delivered_samples"]) < 50_000


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "Inf"), (-np.inf, "Inf")])
def test_non_finite_sample_is_named_by_position(tmp_path: Path, value: float, word: str) -> None:
    audio = noise(5000)
    audio[4321, 1] = value
    soundfile.write(tmp_path / "a.wav", audio, RATE, "FLOAT")
    with pytest.raises(files.NonFiniteAudio, match=f"{word} at sample 4321") as caught:
        list(files.AudioFile(tmp_path / "a.wav").blocks(1000))
    assert caught.value.metadata["channel"] == "2"


def test_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_then_be_interrupted(tmp_path / "a.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"old"


def test_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(files.NotWritable, match="file"):
        files.AudioWriter(tmp_path / "file" / "a.wav", RATE, 2, 100)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_full_disk_is_reported_and_nothing_is_left(tiny_disk: Path, kind: str) -> None:
    with pytest.raises(DiskFull, match="no space left"):
        write(tiny_disk / f"a.{kind}", [noise(10_000)] * 20, kind)
    assert list(tiny_disk.iterdir()) == []
