"""Promises of the rendered folders: whole tracks or none, whatever dies when; a manifest of what they are made of."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from mini_songs import write_midi

from training.data.render import __main__ as program
from training.data.render import fonts, pool, track
from training.data.render.__main__ import main as render_command
from training.data.render.manifest import OWN_SOUNDS, manifest_of, write_manifest
from training.data.render.pool import RenderConfig, render_split
from training.data.render.track import META, Track, remove_leftovers, store_track, written_minutes, written_seconds

RATE_HZ = 44100
needs_fonts = pytest.mark.skipif(
    not any(font.path.is_file() for font in fonts.KNOWN_FONTS),
    reason="needs a soundfont named in docs/rendering.md",
)


def small_track(seconds: float = 1.0, **meta: Any) -> Track:
    rng = np.random.default_rng(0)
    stems = {
        stem: (0.1 * rng.standard_normal((2, round(seconds * RATE_HZ)))).astype(np.float32)
        for stem in ("bass", "drums", "piano")
    }
    sounds = {
        "bass": {"sound": "plucked bass", "licence": "CC0-1.0"},
        "drums": {"sound": "Audiophob", "licence": "CC0-1.0"},
        "piano": {"sound": "FluidR3_GM", "licence": "MIT"},
    }
    known = {"song": "freedoom1/D_E1M1", "licence": "BSD-3-Clause", "seconds": seconds, "seed": 1, "stems": sounds}
    return Track(stems, {**known, **meta})


def dies_at(call: int, final: Path) -> None:
    """Stores a track in a process that is killed when it is about to do its `call`-th step that touches the disk."""
    calls = 0

    def counting(step: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **options)

        return counted

    track.soundfile.write = counting(soundfile.write)
    track.os.fsync = counting(os.fsync)
    Path.rename = counting(Path.rename)  # type: ignore[method-assign]
    store_track(small_track(), final)
    os._exit(0)


def test_a_kill_at_any_step_leaves_no_track_or_a_whole_one(tmp_path: Path) -> None:
    """Three stems are written and flushed, then what is said of them, then all takes its name: eight steps."""
    context = multiprocessing.get_context("fork")
    for call in range(1, 10):
        final = tmp_path / "val" / f"Track{call:05d}"
        process = context.Process(target=dies_at, args=(call, final))
        process.start()
        process.join(60)
        assert process.exitcode == (-signal.SIGKILL if call < 9 else 0)
        assert written_seconds(tmp_path, "val", call) == (None if call < 9 else 1.0)
        assert final.exists() == (call == 9)
    assert len(list((tmp_path / "val").glob(".Track*"))) == 8
    remove_leftovers(tmp_path / "val")
    assert [path.name for path in (tmp_path / "val").iterdir()] == ["Track00009"]
    lengths = {len(soundfile.read(path)[0]) for path in final.glob("*.flac")}
    assert lengths == {RATE_HZ}


def test_what_others_are_writing_is_left_alone(tmp_path: Path) -> None:
    others = [".Track00001.elsewhere.999999999", f".Track00002.{track.socket.gethostname()}.{os.getpid()}"]
    for name in others:
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == others


def test_the_faster_of_two_machines_is_kept_and_a_folder_without_its_end_is_not(tmp_path: Path) -> None:
    final = tmp_path / "val" / "Track00000"
    store_track(small_track(song="first"), final)
    store_track(small_track(song="second"), final)
    assert json.loads((final / META).read_text())["song"] == "first"
    (final / META).unlink()
    store_track(small_track(song="third"), final)
    assert json.loads((final / META).read_text())["song"] == "third"
    assert len(list(final.parent.iterdir())) == 1


def test_the_manifest_counts_songs_sounds_and_licences(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    store_track(small_track(6.0), folder / "Track00000")
    store_track(small_track(3.0, song="mma/rock", licence="GPL-2.0-or-later"), folder / "Track00003")
    read = json.loads(write_manifest(folder).read_text())
    assert (read["split"], read["tracks"], read["minutes"], read["seeds"]) == ("train", 2, 0.15, [1])
    assert read["minutes_by_stem"]["bass"] == 0.15
    assert read["minutes_by_stem"]["guitar"] == 0
    assert read["song_sources"]["mma"] == {"licence": "GPL-2.0-or-later", "tracks": 1, "minutes": 0.05}
    assert read["sounds"][OWN_SOUNDS] == {"licence": "CC0-1.0", "stems": 2}
    assert read["sounds"]["Audiophob"]["stems"] == 2
    assert read["voices"] == {"plucked bass": 2}
    assert read["licences"]["songs"] == {"BSD-3-Clause": 0.1, "GPL-2.0-or-later": 0.05}
    assert read["licences"]["sounds"] == {"CC0-1.0": 4, "MIT": 2}
    assert written_minutes(tmp_path, "train", first_index=1) == pytest.approx(0.05)
    assert manifest_of(tmp_path)["tracks"] == 0


@needs_fonts
def test_the_users_own_songs_are_rendered_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, with no other songs: the pool hands each track to the same function."""
    monkeypatch.setattr("training.data.render.songs.all_families", list)
    monkeypatch.setattr("training.data.render.songs._wad_songs", lambda: iter(()))
    monkeypatch.setattr("training.data.render.songs._folder_songs", lambda *_: iter(()))
    names = [f"song {index}" for index in range(12)]
    (tmp_path / "midi").mkdir()
    for index, name in enumerate(names):
        write_midi(tmp_path / "midi" / f"{name}.mid", [(33, False), (0, False)], index)
    own = track.OwnSongs(tmp_path / "midi", "CC-BY-4.0")
    seconds = track.write_track(tmp_path, 1, "train", 0, own)
    meta = json.loads((tmp_path / "train" / "Track00000" / META).read_text())
    assert meta["song"].removeprefix("midi/") in names
    assert meta["licence"] == "CC-BY-4.0"
    assert {"bass", "piano"} <= set(meta["stems"]) | {"guitar"}
    done = ["--out", str(tmp_path), "--split", "train", "--hours", str(seconds / 3600), "--workers", "1"]
    assert program.main([*done, "--midi", str(tmp_path / "midi"), "--midi-licence", "CC-BY-4.0"]) == 0
    assert str(tmp_path / "train" / "manifest.json") in capsys.readouterr().out
    assert json.loads((tmp_path / "train" / "manifest.json").read_text())["song_sources"]["midi"]["tracks"] == 1
    with pytest.raises(SystemExit):
        program.main([*done, "--midi", str(tmp_path / "nowhere")])


def _render_forever(out: Path) -> None:
    pool.write_track = _slow  # type: ignore[assignment]
    for _ in render_split(RenderConfig(out=out, split="val", hours=1.0, seed=1, workers=2)):
        pass


def _slow(*_: Any) -> float:
    time.sleep(600)
    return 0.0


def test_workers_do_not_outlive_a_killed_renderer(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_render_forever, args=(tmp_path,))
    process.start()
    assert process.pid is not None
    deadline, workers = time.monotonic() + 120, []
    while len(workers) < 2 and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.1)
        children = psutil.Process(process.pid).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    time.sleep(0.5)
    process.kill()
    process.join(60)
    assert len(workers) == 2, "the renderer has not started its workers"
    _, alive = psutil.wait_procs(workers, timeout=60)
    for worker in alive:
        worker.kill()
    assert not alive


QUICK_S, QUICK_TRACKS = 2.0, 16


def _quick(root: Path, _seed: int, split: str, index: int, _own: Any) -> float:
    store_track(small_track(QUICK_S, index=index), track.track_dir(root, split, index))
    time.sleep(0.3)  # so that it is not all done before it is killed
    return QUICK_S


def _render_quickly(out: Path) -> None:
    pool.write_track = _quick
    hours = QUICK_S * QUICK_TRACKS / 3600
    for _ in render_split(RenderConfig(out=out, split="val", hours=hours, seed=1, workers=2)):
        pass


def test_a_killed_renderer_loses_only_the_tracks_it_was_making(tmp_path: Path) -> None:
    """A real SIGKILL of the pool. What had its name is whole, and is not made again."""
    folder, kept = tmp_path / "val", dict[Path, int]()
    for kill_at in (5, None):
        process = multiprocessing.get_context("spawn").Process(target=_render_quickly, args=(tmp_path,))
        process.start()
        deadline = time.monotonic() + 120
        while kill_at is not None and len(list(folder.glob("Track*"))) < kill_at and time.monotonic() < deadline:
            time.sleep(0.002)
        if kill_at is not None:
            workers = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            assert not psutil.wait_procs(workers, timeout=60)[1]
        process.join(120)
        assert process.exitcode == (0 if kill_at is None else -signal.SIGKILL)
        for path in folder.glob("Track*"):
            assert written_seconds(tmp_path, "val", int(path.name.removeprefix("Track"))) == QUICK_S
            assert {len(soundfile.read(file)[0]) for file in path.glob("*.flac")} == {round(QUICK_S * RATE_HZ)}
        now = {path: path.stat().st_mtime_ns for path in folder.glob("Track*/*")}
        assert kept.items() <= now.items()
        kept = now
    tracks = len(list(folder.iterdir()))
    assert tracks in (QUICK_TRACKS, QUICK_TRACKS + 1)  # the other worker may have begun one more
    assert len(kept) == 4 * tracks


def _render_by_command(out: Path) -> None:
    pool.write_track = _quick
    render_command(["--out", str(out), "--split", "val", "--hours", "1", "--workers", "2"])


def test_a_renderer_that_is_asked_to_end_leaves_a_manifest(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_render_by_command, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "val").glob("Track*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    process.join(120)
    assert process.exitcode == 128 + signal.SIGTERM
    manifest = json.loads((tmp_path / "val" / "manifest.json").read_text())
    assert manifest["tracks"] == len(list((tmp_path / "val").glob("Track*"))) >= 3
