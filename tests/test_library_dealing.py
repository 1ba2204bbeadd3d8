"""How a library's songs are dealt out: workers here are functions, which lose their way as they are told to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rich.progress import Progress

from pyserver.cli.library import Library, Order
from pyserver.cli.places import AnyPath
from pyserver.cli.songs import OutputExists, Song
from pyserver.cli.workers import Skill, Worker, WorkerLost
from pyserver.errors import DiskFull, StemlineError

SKILL = Skill(version="1", model="m", weights_sha256="0" * 64, stems=("bass",))
NAMES = ["bass.wav", "residual.wav"]

Separate = Callable[[Song, Path], None]


class ScriptedWorker:
    def __init__(self, skill: Skill, separate: Separate) -> None:
        self.skill, self._separate = skill, separate

    async def separate(self, song: Song, parts: AnyPath, progress: Progress) -> list[str]:
        await asyncio.sleep(0.01)
        assert isinstance(parts, Path)
        parts.mkdir(parents=True)
        (parts / NAMES[0]).write_text("half")
        self._separate(song, parts)
        for name in NAMES:
            (parts / name).write_text(f"{song.source} {name}")
        return NAMES


class ScriptedCrew:
    def __init__(self, **workers: ScriptedWorker) -> None:
        self._workers = workers

    async def posts(self) -> list[str]:
        return list(self._workers)

    @asynccontextmanager
    async def worker(self, post: str) -> AsyncIterator[Worker]:
        yield self._workers[post]


def well(song: Song, parts: Path) -> None:
    pass


def songs(folder: Path, count: int = 6) -> list[Song]:
    return [Song(folder / f"{number}.wav", folder / "out" / str(number)) for number in range(count)]


def dealt(crew: ScriptedCrew, found: list[Song], *, skip_done: bool = False) -> list[StemlineError]:
    failures: list[StemlineError] = []
    order = Order(format="wav", overwrite=False, skip_done=skip_done)

    async def deal() -> None:
        await Library(crew, found, order, failures).bounce()

    asyncio.run(deal())
    return failures


def finished(found: list[Song]) -> list[Song]:
    """All others have left nothing, and these nothing but their stems."""
    done = []
    for song in found:
        assert isinstance(song.directory, Path)
        if song.directory.exists():
            assert sorted(path.name for path in song.directory.iterdir()) == NAMES
            assert all((song.directory / name).read_text() == f"{song.source} {name}" for name in NAMES)
            done.append(song)
    return done


def test_song_of_a_lost_worker_is_done_by_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = songs(tmp_path)
    losses = []

    def once(song: Song, parts: Path) -> None:
        if not losses:
            losses.append(song)
            raise WorkerLost("gone")

    assert dealt(ScriptedCrew(a=ScriptedWorker(SKILL, once), b=ScriptedWorker(SKILL, well)), found) == []
    assert finished(found) == found
    printed = capsys.readouterr().out.split()
    assert sorted(printed) == sorted(str(song.directory / name) for song in found for name in NAMES)


def test_song_that_takes_its_workers_with_it_is_blamed_and_the_others_are_done(tmp_path: Path) -> None:
    found = songs(tmp_path)

    def fatal(song: Song, parts: Path) -> None:
        if song is found[2]:
            raise WorkerLost("gone")

    crew = ScriptedCrew(a=ScriptedWorker(SKILL, fatal), b=ScriptedWorker(SKILL, fatal))
    assert [failure.reason for failure in dealt(crew, found)] == [WorkerLost.reason]
    assert finished(found) == [song for song in found if song is not found[2]]


def test_worker_that_would_make_other_stems_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, used = songs(tmp_path), set()

    def using(name: str) -> Separate:
        return lambda song, parts: used.add(name)

    other = Skill(version="1", model="m", weights_sha256="1" * 64, stems=("bass",))
    crew = ScriptedCrew(a=ScriptedWorker(SKILL, using("a")), b=ScriptedWorker(other, using("b")))
    assert dealt(crew, found) == []
    assert finished(found) == found
    assert used == {"a"}
    assert "b: it has m 111111111111" in capsys.readouterr().err


def test_worker_without_room_is_left_out_and_the_last_one_ends_the_work(tmp_path: Path) -> None:
    found = songs(tmp_path)

    def full(song: Song, parts: Path) -> None:
        raise DiskFull("no space left for it")

    crew = ScriptedCrew(a=ScriptedWorker(SKILL, full), b=ScriptedWorker(SKILL, well))
    assert dealt(crew, found) == []
    assert finished(found) == found
    found = songs(tmp_path / "more")
    with pytest.raises(StemlineError, match="no space left") as raised:
        dealt(ScriptedCrew(a=ScriptedWorker(SKILL, full), b=ScriptedWorker(SKILL, full)), found)
    assert raised.value.reason == DiskFull.reason
    assert finished(found) == []


def test_done_songs_are_skipped_and_half_done_ones_are_told(tmp_path: Path) -> None:
    found = songs(tmp_path)
    seen: list[Song] = []
    crew = ScriptedCrew(a=ScriptedWorker(SKILL, lambda song, parts: seen.append(song)))
    assert dealt(crew, found[:2]) == []
    assert dealt(crew, found, skip_done=True) == []
    assert seen == found
    assert dealt(crew, found, skip_done=True) == []
    assert seen == found
    Path(str(found[0].directory / NAMES[0])).unlink()
    with pytest.raises(OutputExists):
        dealt(crew, found, skip_done=True)
    assert seen == found
