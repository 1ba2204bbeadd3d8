"""Songs in every layout in which they are published, on trees as small as they can be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from song_trees import UUIDS, moises_song, musdb_song, noise, slakh_song, stem_mp4, write

from training.data.datasets import BrokenSong, NoFfmpeg, NoSongs, Song, StemsNotApart, open_dataset
from training.data.datasets.musdb import VALIDATION
from training.data.datasets.slakh import class_of

FIVE = ("bass", "drums", "guitar", "piano", "other")
MUSDB = ("vocals", "drums", "bass", "other")
needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="the program ffmpeg is not installed"
)


def only(path: Path) -> Song:
    (song,) = open_dataset(path).songs()
    return song


def names(path: Path) -> list[tuple[str, str]]:
    return [(song.split, song.name) for song in open_dataset(path).songs()]


# Slakh2100


def test_slakh_takes_the_class_from_the_program_and_sums_what_shares_it(tmp_path: Path) -> None:
    expected = slakh_song(tmp_path / "train" / "Track00001")
    stems, rate = only(tmp_path).load(FIVE)
    assert rate == 44100
    assert stems.shape == (5, 3000, 2)
    for index, name in enumerate(FIVE):
        assert np.array_equal(stems[index], np.repeat(expected[name], 2, axis=1)), name


def test_general_midi_classes_end_where_the_families_end() -> None:
    programs = {"piano": (0, 7), "guitar": (24, 31), "bass": (32, 39)}
    for name, (first, last) in programs.items():
        assert class_of(first, False) == class_of(last, False) == name
    assert [class_of(program, False) for program in (8, 23, 40, 127)] == ["other"] * 4
    assert class_of(33, True) == "drums"


def test_slakh_splits_may_have_gaps_and_omitted_songs_are_left_alone(tmp_path: Path) -> None:
    for place in ("train/Track00001", "train/Track00017", "validation/Track01501", "test/Track01876", "omitted/Track3"):
        slakh_song(tmp_path / place)
    everything = [("test", "Track01876"), ("train", "Track00001"), ("train", "Track00017"), ("val", "Track01501")]
    assert names(tmp_path) == everything
    assert names(tmp_path / "val") == names(tmp_path / "validation") == [("val", "Track01501")]
    assert names(tmp_path / "train") == everything[1:3]
    assert names(tmp_path / "omitted") == [("omitted", "Track3")]


def test_a_mixture_is_the_sum_of_its_stems_and_not_the_mixtures_file(tmp_path: Path) -> None:
    expected = slakh_song(tmp_path / "train" / "Track00001")
    mixture, _ = only(tmp_path).mixture(FIVE, channels=None)
    assert mixture.shape == (3000, 1)
    assert np.allclose(mixture, sum(expected.values()), atol=1e-7)
    four, _ = only(tmp_path).mixture(FIVE[:4], channels=None)
    assert np.allclose(four, sum(expected[name] for name in FIVE[:4]), atol=1e-7)


def test_what_slakhs_metadata_promises_must_be_there(tmp_path: Path) -> None:
    song = tmp_path / "train" / "Track00001"
    slakh_song(song)
    (song / "stems" / "S03.flac").unlink()
    with pytest.raises(BrokenSong, match=r"Track00001.*S03\.flac.*not there"):
        only(tmp_path).load(FIVE)
    metadata = song / "metadata.yaml"
    whole = metadata.read_text()
    metadata.write_text(whole.replace("    program_num: 33\n", ""))
    with pytest.raises(BrokenSong, match=r"Track00001.*program_num of S03 in metadata\.yaml"):
        only(tmp_path).load(FIVE)
    metadata.write_text("stems: [")
    with pytest.raises(BrokenSong, match=r"Track00001.*YAML in metadata\.yaml"):
        only(tmp_path).load(FIVE)
    metadata.write_text("UUID: 1\n")
    with pytest.raises(BrokenSong, match=r"Track00001.*`stems` in metadata\.yaml"):
        only(tmp_path).load(FIVE)


def test_a_slakh_song_without_metadata_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    slakh_song(tmp_path / "train" / "Track00001")
    slakh_song(tmp_path / "train" / "Track00002")
    (tmp_path / "train" / "Track00002" / "metadata.yaml").unlink()
    broken = open_dataset(tmp_path).songs()[1]
    with pytest.raises(BrokenSong, match=r"Track00002.*metadata\.yaml.*no such file"):
        broken.load(FIVE)


# MSDM's, DiCoSe's and our own


def test_msdm_has_mono_and_missing_stems(tmp_path: Path) -> None:
    song = tmp_path / "validation" / "Track01501"
    bass, piano = noise(1, 2000, 1), noise(2, 1500, 1)
    write(song / "bass.wav", bass, 22050)
    write(song / "piano.wav", piano, 22050)
    stems, rate = only(tmp_path / "val").load(("bass", "drums", "guitar", "piano"))
    assert (rate, stems.shape) == (22050, (4, 2000, 2))
    assert np.array_equal(stems[0], np.repeat(bass, 2, axis=1))
    assert not stems[1:3].any()
    assert np.array_equal(stems[3, :1500], np.repeat(piano, 2, axis=1))
    assert not stems[3, 1500:].any()
    assert only(tmp_path).load(("bass", "piano"), channels=1)[0].shape == (2, 2000, 1)


def test_our_own_layout_has_test_sets_of_their_own(tmp_path: Path) -> None:
    for split in ("train", "val", "test-song", "test-font"):
        for stem in ("bass", "other"):
            write(tmp_path / split / "Track00000" / f"{stem}.flac", noise(3, 500))
        (tmp_path / split / "Track00000" / "meta.json").write_text("{}")
    (tmp_path / "train" / ".Track00001.77").mkdir()
    write(tmp_path / "train" / ".Track00001.77" / "bass.flac", noise(3, 500))
    assert names(tmp_path / "test-font") == [("test-font", "Track00000")]
    assert names(tmp_path / "train") == [("train", "Track00000")]
    assert len(names(tmp_path)) == 4


def test_a_plain_folder_of_songs_is_for_training(tmp_path: Path) -> None:
    audio = noise(4, 3000)
    (tmp_path / "a song").mkdir()
    for stem in ("drums", "other", "vocals"):
        soundfile.write(tmp_path / "a song" / f"{stem}.ogg", audio, 44100)
    assert names(tmp_path) == names(tmp_path / "train") == [("train", "a song")]
    stems, _ = only(tmp_path).load(("drums", "bass", "vocals"))
    assert stems[0].any()
    assert not stems[1].any()
    with pytest.raises(NoSongs, match=r"val: .* songs for train only"):
        open_dataset(tmp_path / "val")


def test_classes_not_asked_for_are_other_or_left_out(tmp_path: Path) -> None:
    parts = {name: noise(index, 800) for index, name in enumerate(("bass", "vocals", "strings", "other", "mixture"))}
    for name, audio in parts.items():
        write(tmp_path / "song" / f"{name}.wav", audio)
    stems, _ = only(tmp_path).load(("bass", "other"))
    assert np.array_equal(stems[0], parts["bass"])
    assert np.allclose(stems[1], parts["vocals"] + parts["strings"] + parts["other"], atol=1e-7)
    assert np.array_equal(only(tmp_path).mixture(("bass", "vocals"))[0], parts["bass"] + parts["vocals"])


def test_sources_at_several_rates_meet_at_the_highest(tmp_path: Path) -> None:
    time = np.arange(22050) / 22050
    write(tmp_path / "song" / "bass.wav", (0.3 * np.sin(2 * np.pi * 440 * time))[:, None].astype(np.float32), 22050)
    write(tmp_path / "song" / "drums.wav", noise(0, 44100), 44100)
    (bass, _), rate = only(tmp_path).load(("bass", "drums"))
    assert (rate, len(bass)) == (44100, 44100)
    expected = 0.3 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
    assert np.abs(bass[2000:-2000, 0] - expected[2000:-2000]).max() < 1e-3


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_files_that_end_early_are_named(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / "song" / f"bass{suffix}"
    write(file, noise(0, 30000))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BrokenSong, match=rf"song: expected audio from beginning to end in bass\{suffix}.*breaks off"):
        only(tmp_path).load(("bass",))


def test_more_than_two_channels_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "song" / "bass.wav", noise(0, 100, 4))
    with pytest.raises(BrokenSong, match=r"song: expected mono or stereo in bass\.wav, but it has 4 channels"):
        only(tmp_path).load(("bass",))


def test_a_folder_of_something_else_is_told_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("la")
    with pytest.raises(NoSongs, match=rf"{tmp_path} holds no songs.*Slakh2100.*MUSDB18-HQ.*MoisesDB"):
        open_dataset(tmp_path)
    with pytest.raises(NoSongs, match=r"missing is no folder of songs"):
        open_dataset(tmp_path / "missing")


# MUSDB18


def test_musdb_takes_its_fourteen_validation_songs_out_of_training(tmp_path: Path) -> None:
    assert len(VALIDATION) == 14
    for name in ("Actions - One Minute Smile", "Music Delta - Rock", "Johnny Lokke - Promises & Lies"):
        musdb_song(tmp_path / "train" / name, length=50)
    musdb_song(tmp_path / "test" / "Zeno - Signs", length=50)
    assert names(tmp_path / "train") == [("train", "Music Delta - Rock")]
    assert [name for _, name in names(tmp_path / "val")] == [
        "Actions - One Minute Smile",
        "Johnny Lokke - Promises & Lies",
    ]
    assert names(tmp_path / "test") == [("test", "Zeno - Signs")]


def test_musdb_hq_gives_its_four_stems_and_never_the_mixtures_file(tmp_path: Path) -> None:
    expected = musdb_song(tmp_path / "train" / "Music Delta - Rock")
    stems, _ = only(tmp_path).load(MUSDB)
    assert all(np.array_equal(stems[index], expected[name]) for index, name in enumerate(MUSDB))
    mixture, _ = only(tmp_path).mixture(MUSDB)
    assert np.allclose(mixture, sum(expected.values()), atol=1e-7)


def test_a_musdb_song_without_one_of_its_stems_is_named(tmp_path: Path) -> None:
    musdb_song(tmp_path / "train" / "A - B")
    musdb_song(tmp_path / "train" / "C - D")
    (tmp_path / "train" / "C - D" / "bass.wav").unlink()
    with pytest.raises(BrokenSong, match=r"C - D: expected the song's stem in bass\.wav, but there is no such file"):
        open_dataset(tmp_path).songs()[1].load(MUSDB)


def test_stems_that_a_data_set_does_not_tell_apart_are_refused_as_targets(tmp_path: Path) -> None:
    musdb_song(tmp_path / "train" / "A - B")
    with pytest.raises(StemsNotApart, match=r"MUSDB18-HQ has guitar, piano inside `other`"):
        only(tmp_path).load(FIVE)
    assert not only(tmp_path).load(FIVE[:4])[0][2:].any()


@needs_ffmpeg
def test_musdb_mp4_has_its_streams_in_the_published_order(tmp_path: Path) -> None:
    tones = {"mixture": 3000.0, "drums": 200.0, "bass": 400.0, "other": 800.0, "vocals": 1600.0}
    stem_mp4(tmp_path / "train" / "Music Delta - Rock.stem.mp4", tones)
    stem_mp4(tmp_path / "train" / "Triviul - Angelsaint.stem.mp4", tones)
    assert names(tmp_path / "val") == [("val", "Triviul - Angelsaint")]
    song = only(tmp_path / "train")
    assert song.name == "Music Delta - Rock"
    stems, rate = song.load(MUSDB)
    assert (rate, stems.shape[0], stems.shape[2]) == (44100, 4, 2)
    assert 0.55 < stems.shape[1] / rate < 0.75
    for name, audio in zip(MUSDB, stems, strict=True):
        spectrum = np.abs(np.fft.rfft(audio[:22050, 0]))
        assert np.argmax(spectrum) * 2 == pytest.approx(tones[name], abs=3), name


@needs_ffmpeg
def test_an_mp4_with_other_than_five_streams_or_cut_short_is_named(tmp_path: Path) -> None:
    file = tmp_path / "train" / "A - B.stem.mp4"
    stem_mp4(file, {"mixture": 300.0, "drums": 200.0})
    with pytest.raises(BrokenSong, match=r"train: expected five audio streams .* in A - B\.stem\.mp4, but there are 2"):
        only(tmp_path).load(MUSDB)
    cut = tmp_path / "test" / "C - D.stem.mp4"
    cut.parent.mkdir()
    cut.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(BrokenSong, match=r"test: expected an MP4 with AAC streams in C - D\.stem\.mp4, but ffprobe"):
        only(tmp_path / "test").load(MUSDB)


def test_without_ffmpeg_one_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "A - B.stem.mp4").write_bytes(b"")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoFfmpeg, match=r"A - B\.stem\.mp4 is decoded by .*ffmpeg.*apt-get install ffmpeg"):
        only(tmp_path).load(MUSDB)


# MoisesDB


@pytest.mark.parametrize("inner", ["", "moisesdb_v0.1"])
def test_moisesdb_sums_the_tracks_of_a_stem_though_they_differ_in_length(tmp_path: Path, inner: str) -> None:
    long, short, organ, shaker = noise(0, 3000), noise(1, 1000, 1), noise(2, 500), noise(3, 200)
    stems = {"guitar": {"g1": long, "g2": short}, "other_keys": {"o": organ}, "percussion": {"p": shaker}}
    moises_song(tmp_path / inner / UUIDS[0], stems)
    out, rate = only(tmp_path).load(FIVE)
    assert (rate, out.shape) == (44100, (5, 3000, 2))
    assert np.allclose(out[2, :1000], long[:1000] + short, atol=1e-7)
    assert np.array_equal(out[2, 1000:], long[1000:])
    assert np.allclose(out[4, :200], organ[:200] + shaker, atol=1e-7)
    assert not out[4, 500:].any()
    assert not out[[0, 1, 3]].any()


def test_moisesdb_has_splits_drawn_from_the_songs_identity(tmp_path: Path) -> None:
    titles = [f"{index:08x}-0000-4000-8000-000000000000" for index in range(60)]
    for title in titles:
        (tmp_path / title).mkdir()
        (tmp_path / title / "data.json").write_text('{"stems": []}')
    splits = {split: {name for _, name in names(tmp_path / split)} for split in ("train", "val", "test")}
    assert set.union(*splits.values()) == set(titles)
    assert sum(map(len, splits.values())) == 60
    assert len(splits["train"]) > 36
    assert min(len(splits["val"]), len(splits["test"])) >= 1
    shutil.rmtree(tmp_path / min(splits["val"]))
    assert {name for _, name in names(tmp_path / "train")} == splits["train"]


def test_what_moisesdbs_metadata_promises_must_be_there(tmp_path: Path) -> None:
    for uuid in UUIDS:
        moises_song(tmp_path / uuid, {"bass": {"b": noise(0, 100)}})
    first, second = open_dataset(tmp_path).songs()
    (first.path / "bass" / "b.wav").unlink()
    with pytest.raises(BrokenSong, match=rf"{UUIDS[0]}: .*bass/b\.wav, in data\.json, but that is not there"):
        first.load(FIVE)
    (first.path / "data.json").unlink()
    with pytest.raises(BrokenSong, match=rf"{UUIDS[0]}: .*data\.json, but there is no such file"):
        open_dataset(tmp_path).songs()[0].load(FIVE)
    (second.path / "data.json").write_text(json.dumps({"stems": [{"tracks": []}, {"stemName": "a", "tracks": [{}]}]}))
    with pytest.raises(BrokenSong, match=rf"{UUIDS[1]}: .*stemName.*in data\.json"):
        second.load(FIVE)
    (second.path / "data.json").write_text(json.dumps({"stems": []}))
    with pytest.raises(BrokenSong, match=rf"{UUIDS[1]}: expected a source of bass, .*there is none"):
        second.load(FIVE)
