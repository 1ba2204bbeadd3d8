"""`bounce` of a whole library: several servers at once, and songs in stores that are not on this machine."""

import shutil
import signal
from pathlib import Path

import fsspec
import psutil
import pytest
from cli_tools import OUTPUTS, Home, noise, require_whole, song, wait_until

from pyserver.audio.files import AudioFileMissing
from pyserver.cli import main
from pyserver.cli.exits import Exit
from pyserver.cli.places import RemotePath
from pyserver.cli.workers import cpu_devices


@pytest.fixture
def home(tiny_model_dir: Path, tmp_path: Path) -> Home:
    """A user without a server."""
    return Home(tmp_path / "home", tiny_model_dir)


def library(folder: Path, count: int, seconds: float = 0.5) -> Path:
    for number in range(count):
        song(folder / f"cd{number % 2}" / f"{number}.wav", noise(seconds + 0.1 * number))
    return folder


def same_files(one: Path, other: Path) -> None:
    files = [{path.relative_to(root): path.read_bytes() for path in root.rglob("*.*")} for root in (one, other)]
    assert files[0].keys() == files[1].keys()
    assert files[0] == files[1]


def test_workers_give_the_stems_of_a_plain_bounce_and_go_on_where_they_were(home: Home, tmp_path: Path) -> None:
    songs = library(tmp_path / "songs", 4)
    threads = cpu_devices(2)["worker 1"][-1]  # rounding depends on their number
    with home.server("--threads", threads):
        assert home.run("bounce", songs, "-o", tmp_path / "plain").returncode == Exit.OK
    bad = songs / "bad.wav"
    bad.write_text("hello " * 100)
    result = home.run("bounce", songs, "-o", tmp_path / "out", "--workers", 2)
    assert result.returncode == Exit.UNSUPPORTED_AUDIO
    assert f"{bad} is not audio" in result.stderr
    assert "5 of 5 songs (1 failed)" in result.stderr
    same_files(tmp_path / "plain", tmp_path / "out")
    assert sorted(result.stdout.split()) == sorted(map(str, (tmp_path / "out").rglob("*.wav")))
    bad.unlink()
    (tmp_path / "out" / "cd0" / "0" / "residual.wav").unlink()
    result = home.run("bounce", songs, "-o", tmp_path / "out", "--workers", 2)
    assert result.returncode == Exit.OUTPUT_EXISTS
    result = home.run("bounce", songs, "-o", tmp_path / "out", "--workers", 2, "--overwrite", "--stems", "kazoo")
    assert result.returncode == Exit.STEM_UNKNOWN
    (tmp_path / "out" / "cd0" / "0" / "bass.wav").unlink()
    for path in (tmp_path / "out" / "cd0" / "0").iterdir():
        path.unlink()
    result = home.run("bounce", songs, "-o", tmp_path / "out", "--workers", 2, "--skip-done")
    assert result.returncode == Exit.OK, result.stderr
    assert len(result.stdout.split()) == len(OUTPUTS)
    same_files(tmp_path / "plain", tmp_path / "out")


def servers() -> list[psutil.Process]:
    """Those that a worker has started."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if "--until-stdin-closes" in (process.info["cmdline"] or ())
        and "stemline-worker-" in (process.info["environ"] or {}).get("STEMLINE_HOME", "")
    ]


def test_song_of_a_killed_server_is_done_again(home: Home, tmp_path: Path) -> None:
    songs = [song(tmp_path / f"{name}.wav", noise(40, 8000, 1), 8000) for name in "ab"]
    process = home.start("bounce", *songs, "-o", tmp_path / "out", "--workers", 2)
    wait_until(lambda: list((tmp_path / "out").glob("*")) or len(servers()) == 2)
    server = servers()[0]
    wait_until(lambda: list(Path(server.environ()["STEMLINE_HOME"]).glob("state/jobs/*/job.json")))
    server.kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == Exit.OK, errors
    assert "the server went away" in errors
    for source in songs:
        require_whole(source, tmp_path / "out" / source.stem)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_library_leaves_no_server(home: Home, tmp_path: Path, number: int) -> None:
    songs = [song(tmp_path / f"{name}.wav", noise(40, 8000, 1), 8000) for name in "ab"]
    process = home.start("bounce", *songs, "-o", tmp_path / "out", "--workers", 2)
    wait_until(lambda: len(servers()) == 2)
    mine = servers()
    homes = [Path(one.environ()["STEMLINE_HOME"]) for one in mine]
    wait_until(lambda: any(list(home.glob("state/jobs/*")) for home in homes))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    wait_until(lambda: not any(one.is_running() for one in mine))
    for left in homes if number == signal.SIGKILL else ():  # as a later worker does when they are old enough
        shutil.rmtree(left)
    assert not any(home.exists() for home in homes)
    if number == signal.SIGINT:
        assert process.returncode == Exit.CANCELLED
        assert "cancelled" in errors
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_songs_and_stems_may_be_anywhere(tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = song(tmp_path / "a.wav")
    memory = fsspec.filesystem("memory")
    memory.pipe("/songs/cd/a.wav", source.read_bytes())
    memory.pipe("/songs/cd/b.wav", b"hello")
    given = ["memory://songs", "-o", "memory://songs/stems", "--cpu"]
    assert main(["bounce", *given]) == Exit.UNSUPPORTED_AUDIO
    told = capsys.readouterr()
    assert "memory://songs/cd/b.wav is not audio" in told.err
    assert sorted(told.out.split()) == [f"memory://songs/stems/cd/a/{stem}.wav" for stem in sorted(OUTPUTS)]
    memory.rm("/songs/cd/b.wav")
    assert [Path(path).parent.name for path in memory.find("/songs/stems")] == ["a"] * len(OUTPUTS)
    memory.get("/songs/stems/cd/a", str(tmp_path / "got"), recursive=True)
    require_whole(source, tmp_path / "got")
    assert main(["bounce", *given, "--workers", "1", "--skip-done"]) == Exit.OK
    assert capsys.readouterr().out == ""
    assert main(["bounce", *given]) == Exit.OUTPUT_EXISTS
    assert main(["bounce", "memory://songs/cd", "-o", f"file://{tmp_path}/out", "--workers", "1"]) == Exit.OK
    require_whole(source, tmp_path / "out" / "a")
    assert main(["bounce", str(source), "-o", "memory://fresh", "--workers", "1"]) == Exit.OK
    assert {Path(path).stem for path in memory.find("/fresh")} == OUTPUTS
    memory.rm("/", recursive=True)


BAD = {
    "protocol": (["nonsense://x/a.wav"], Exit.UNKNOWN_PROTOCOL, "nonsense"),
    "package": (["oci://bucket/a.wav"], Exit.PACKAGE_MISSING, "pip install ocifs"),
    "missing": (["memory://nowhere/a.wav"], Exit.FILE_NOT_FOUND, "memory://nowhere/a.wav does not exist"),
    "ray": (["a.wav", "--ray", "127.0.0.1:1"], Exit.CLUSTER_UNREACHABLE, "no Ray cluster answers at 127.0.0.1:1"),
    "both": (["a.wav", "--ray", "auto", "--gpus", "0"], Exit.USAGE, "one is enough"),
    "gpus": (["a.wav", "--gpus", "0,0"], Exit.USAGE, "different numbers"),
    "none": (["a.wav", "--workers", "0"], Exit.USAGE, "at least 1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_reached_has_its_own_words(home: Home, tmp_path: Path, kind: str) -> None:
    given, code, words = BAD[kind]
    result = home.run("bounce", *given, "-o", tmp_path / "out")
    assert result.returncode == code, result.stderr
    assert words in result.stderr


def test_without_ray_the_package_is_named(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError\n")
    monkeypatch.chdir(tmp_path)  # where `python -m` looks first
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", "--ray", "auto")
    assert result.returncode == Exit.PACKAGE_MISSING
    assert "pip install 'stemline[cluster]'" in result.stderr


def test_gpus_that_are_not_there_are_told(home: Home, tmp_path: Path) -> None:
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", "--gpus", "7,8")
    assert result.returncode == Exit.GPU_NOT_AVAILABLE
    assert not (tmp_path / "out").exists()


def test_song_that_vanished_is_told_by_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(AudioFileMissing, match=r"memory://gone/a\.wav does not exist"):
        RemotePath("memory://gone/a.wav").fetch(tmp_path / "a.wav")
