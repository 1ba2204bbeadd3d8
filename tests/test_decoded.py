"""The pool over any data set: copies on the disk are never trusted wrongly, rate and level are what was asked for."""

import os
from pathlib import Path

import numpy as np
import pytest
from song_trees import noise, slakh_song, write

from training.data.datasets import BrokenSong, open_dataset
from training.data.decoded import FOLDER_VARIABLE, decoded, quantised
from training.data.pool import CropConfig, StemPool, batches
from training.train import Arguments, main

FIVE = ("bass", "drums", "guitar", "piano", "other")


def copies(folder: Path) -> list[Path]:
    return sorted(folder.rglob(".*.npy"))


def test_sixteen_bit_files_are_kept_to_the_bit(tmp_path: Path) -> None:
    expected = slakh_song(tmp_path / "train" / "Track00001")
    (track,) = StemPool(tmp_path, FIVE).tracks
    assert track.dtype == np.int16
    for index, name in enumerate(FIVE):
        assert np.array_equal(track[index], np.repeat(expected[name] * 32768, 2, axis=1)), name


def test_a_mono_song_takes_the_room_of_one_channel(tmp_path: Path) -> None:
    write(tmp_path / "mono" / "bass.wav", noise(0, 20000, 1))
    write(tmp_path / "stereo" / "bass.wav", noise(0, 20000, 2))
    assert [track.shape for track in StemPool(tmp_path, ("bass",)).tracks] == [(1, 20000, 2)] * 2
    assert [copy.stat().st_size for copy in copies(tmp_path)] == [40128, 80128]


def test_full_scale_is_kept_and_a_sum_beyond_it_lowers_all_stems_alike() -> None:
    edge = np.array([[[-1.0, 32767 / 32768]]], np.float32)
    assert quantised(edge).ravel().tolist() == [-32768, 32767]
    loud = np.array([[[1.5, -0.6]], [[0.75, 0.1]]], np.float32)
    kept = quantised(loud)
    assert kept[0, 0, 0] == 32767
    assert np.allclose(kept / kept[0, 0, 0], loud / 1.5, atol=1e-4)
    assert quantised(np.array([[[-2.0, 0.5]]], np.float32)).ravel().tolist() == [-32768, 8192]


def test_a_pool_has_the_models_rate(tmp_path: Path) -> None:
    tone = np.rint(10000 * np.sin(2 * np.pi * 1000 * np.arange(22050) / 22050)[:, None]).astype(np.float32) / 32768
    write(tmp_path / "train" / "Track00001" / "bass.wav", tone, 22050)
    up, same = (StemPool(tmp_path, ("bass", "piano"), rate) for rate in (44100, 22050))
    assert up.seconds == same.seconds == 1.0
    spectrum = np.abs(np.fft.rfft(up.tracks[0][0, :, 0]))
    assert np.argmax(spectrum) == 1000
    assert np.array_equal(same.tracks[0][0, :, 0], tone[:, 0] * 32768)


def test_a_copy_is_read_again_without_its_sources_being_decoded(tmp_path: Path) -> None:
    file = tmp_path / "song" / "bass.wav"
    write(file, noise(0, 2000))
    first = np.array(StemPool(tmp_path, ("bass",)).tracks[0])
    (copy,) = copies(tmp_path)
    about = file.stat()
    file.write_bytes(b"\0" * about.st_size)
    os.utime(file, ns=(about.st_mtime_ns, about.st_mtime_ns))
    assert np.array_equal(StemPool(tmp_path, ("bass",)).tracks[0], first)
    assert copies(tmp_path) == [copy]


def test_a_copy_is_not_trusted_when_its_sources_changed(tmp_path: Path) -> None:
    file = tmp_path / "song" / "bass.wav"
    write(file, noise(0, 2000))
    StemPool(tmp_path, ("bass",))
    write(file, noise(1, 2000))
    os.utime(file, ns=(1, 1))
    assert np.array_equal(StemPool(tmp_path, ("bass",)).tracks[0][0], noise(1, 2000) * 32768)


def test_a_copy_is_not_trusted_for_other_stems_in_another_order(tmp_path: Path) -> None:
    for index, stem in enumerate(("bass", "drums")):
        write(tmp_path / "song" / f"{stem}.wav", noise(index, 2000))
    forth, back = (StemPool(tmp_path, stems).tracks[0] for stems in (("bass", "drums"), ("drums", "bass")))
    assert np.array_equal(forth, back[::-1])
    assert not np.array_equal(forth, back)
    first, last = (StemPool(tmp_path, stems).tracks[0] for stems in (("bass", "piano"), ("piano", "bass")))
    assert np.array_equal(first, last[::-1])


@pytest.mark.parametrize("left", [0, 1, 40, 128, 5000])
def test_a_copy_that_is_half_written_is_made_again(tmp_path: Path, left: int) -> None:
    write(tmp_path / "song" / "bass.wav", noise(0, 2000))
    (song,) = open_dataset(tmp_path).songs()
    whole = np.array(decoded(song, ("bass",), 44100))
    (copy,) = copies(tmp_path)
    copy.write_bytes(copy.read_bytes()[:left])
    copy.with_name(f"{copy.name}.killed.partial").write_bytes(b"half")
    assert np.array_equal(decoded(song, ("bass",), 44100), whole)


def test_copies_can_have_a_folder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "elsewhere"))
    for name in ("one", "two"):
        write(tmp_path / "data" / name / "bass.wav", noise(len(name), 2000))
        os.utime(tmp_path / "data" / name / "bass.wav", ns=(1, 1))
    write(tmp_path / "data" / "two" / "bass.wav", noise(8, 2000))
    os.utime(tmp_path / "data" / "two" / "bass.wav", ns=(1, 1))
    first, second = StemPool(tmp_path / "data", ("bass",)).tracks
    assert not np.array_equal(first, second)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2
    assert copies(tmp_path / "data") == []


def test_songs_of_one_name_in_two_splits_are_two_songs(tmp_path: Path) -> None:
    for index, split in enumerate(("train", "val")):
        write(tmp_path / split / "Track00000" / "bass.flac", noise(index, 2000))
    assert StemPool(tmp_path, ("bass",)).names == ["train/Track00000", "val/Track00000"]


def test_with_a_limit_no_more_songs_are_decoded(tmp_path: Path) -> None:
    for index in range(4):
        write(tmp_path / "val" / f"Track{index:05d}" / "bass.flac", noise(index, 2000))
    assert StemPool(tmp_path / "val", ("bass",), limit=2).names == ["val/Track00000", "val/Track00001"]
    assert len(copies(tmp_path)) == 2


@pytest.mark.timeout(20)
def test_a_song_that_turns_out_broken_ends_the_run(tmp_path: Path) -> None:
    write(tmp_path / "train" / "Track00000" / "bass.flac", noise(0, 2000))
    stream = batches(
        StemPool(tmp_path, ("bass",)), CropConfig(samples=64, min_active_stems=1), 1, 0, 0, refresh_every=1
    )
    assert next(stream).shape == (1, 1, 2, 64)
    (tmp_path / "train" / "Track00001").mkdir()
    (tmp_path / "train" / "Track00001" / "bass.flac").write_bytes(b"")
    with pytest.raises(BrokenSong, match="Track00001"):
        list(zip(stream, range(6), strict=False))


def test_the_trainer_says_what_a_data_set_lacks(tmp_path: Path) -> None:
    write(tmp_path / "song" / "bass.flac", noise(0, 2000))
    with pytest.raises(SystemExit, match=r"val: .* songs for train only"):
        main(Arguments(experiment="stemline_small_separator", data=tmp_path, out=tmp_path / "run"))
