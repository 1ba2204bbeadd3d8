"""`bounce`: songs in, stems out, through a server's Bounce service."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pyserver.cli import console, songs
from pyserver.cli.client import ServerArgs, ServerLost, UsageError, with_server
from pyserver.cli.exits import Exit, exit_code
from pyserver.cli.job_run import cancel_on_sigterm
from pyserver.cli.library import Library, Order
from pyserver.cli.places import AnyPath, place
from pyserver.cli.song_bounce import Settings, Work, bounce_song, outputs, prepared
from pyserver.cli.songs import Song
from pyserver.cli.workers import Crew, LocalCrew, cpu_devices, gpu_devices
from pyserver.errors import StemlineError
from pyserver.service.channel import Connection, UntrustedServer

_ENDS_THE_BATCH = {ServerLost.reason, UntrustedServer.reason, "DISK_FULL", "WRONG_TOKEN", "MISSING_TOKEN"}


@dataclass(frozen=True, kw_only=True)
class BounceArgs(ServerArgs):
    """Songs, and how their stems are to be made and written."""

    songs: tyro.conf.Positional[tuple[str, ...]]
    """Audio files, or folders to be searched for them; also s3://bucket/folder and what else fsspec knows."""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Stems are written to DIR/<song>/<stem>.wav."""
    model: str | None = None
    """Which model; default: the server's."""
    steps: int | None = None
    """Refiner steps; 0: the separator alone; default: the model's own."""
    seed: int = 0
    """Of the refiner's noise. The same seed gives the same stems."""
    format: Literal["wav", "flac"] = "wav"
    """WAV is 32-bit float, FLAC 24 bit."""
    stems: str = ""
    """Only these, separated by commas; what remains of the song is the residual."""
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace stems that are already there."""
    skip_done: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave out songs all of whose stems are already there; to go on with a long list."""
    gpus: str = ""
    """Several songs at once, on these GPUs of this machine, separated by commas: a server on each."""
    workers: int | None = None
    """Several songs at once: so many servers that share this machine's CPUs; with --ray no more than so many."""
    ray: str | None = None
    """Several songs at once on a Ray cluster: its address, or "auto"; a server on each of its GPUs, with --cpu on each
    of its nodes."""

    @property
    def settings(self) -> Settings:
        return Settings(model=self.model, steps=self.steps, seed=self.seed, format=self.format, stems=self.stems)


def bounce(args: BounceArgs) -> int:
    """Separate songs into stems."""
    if not args.songs:
        raise UsageError("no songs were given; see stemline bounce --help")
    try:
        with _crew(args) as crew:
            return asyncio.run(_bounce(args, crew))
    except asyncio.CancelledError:  # SIGTERM; Ctrl-C arrives as KeyboardInterrupt
        console.say("stemline bounce: cancelled")
        return Exit.CANCELLED


async def _bounce(args: BounceArgs, crew: Crew | None) -> int:
    cancel_on_sigterm()
    given = [_place(song, args) for song in args.songs]
    found, problems = await asyncio.to_thread(songs.collect, given, _place(args.output, args))
    songs.require_distinct(found)
    failures = list(problems)
    for problem in problems:
        console.say(f"stemline bounce: {problem}")
    if found and crew is not None:
        order = Order(format=args.format, overwrite=args.overwrite, skip_done=args.skip_done)
        await Library(crew, found, order, failures).bounce()
    elif found:
        await _one_after_another(args, found, failures)
    return exit_code(failures[0].reason) if failures else Exit.OK


def _place(given: str, args: BounceArgs) -> AnyPath:
    """On a cluster the same from everywhere."""
    path = place(given)
    return path.absolute() if args.ray and isinstance(path, Path) else path


@contextlib.contextmanager
def _crew(args: BounceArgs) -> Iterator[Crew | None]:
    """None where one server is enough. Raises UsageError, and as `ray_crew`."""
    chosen = [name for name, given in (("--gpus", args.gpus), ("--ray", args.ray)) if given]
    if len(chosen) == 2 or (chosen == ["--gpus"] and (args.workers or args.cpu)):
        raise UsageError("of --gpus, --ray and --workers one is enough; --workers may only limit --ray")
    if not chosen and args.workers is None:
        yield None
        return
    if args.server is not None or args.gpu is not None:
        raise UsageError("--server and --gpu are for one server; --gpus, --workers and --ray start their own")
    if args.workers is not None and args.workers < 1:
        raise UsageError("--workers is at least 1")
    if args.ray:
        from pyserver.cli.ray_crew import ray_crew

        with ray_crew(args.ray, args.settings, cpu=args.cpu, limit=args.workers) as crew:
            yield crew
    elif args.gpus:
        yield LocalCrew(gpu_devices(_gpu_indices(args.gpus)), args.settings)
    else:
        assert args.workers is not None
        yield LocalCrew(cpu_devices(args.workers), args.settings)


def _gpu_indices(given: str) -> list[int]:
    indices = [part.strip() for part in given.split(",")]
    if not all(part.isdecimal() for part in indices) or len(set(indices)) < len(indices):
        raise UsageError(f"--gpus is a list of different numbers like 0,1,2, not {given!r}")
    return [int(part) for part in indices]


async def _one_after_another(args: BounceArgs, found: Sequence[Song], failures: list[StemlineError]) -> None:
    """Through one server, the running one if there is one."""
    remaining: deque[Song] | None = None

    async def work_through(connection: Connection) -> None:
        nonlocal remaining
        work = await prepared(connection, args.settings)
        if remaining is None:
            remaining = await asyncio.to_thread(_free_to_write, work, args, found)
        await _bounce_all(work, remaining, failures)

    await with_server(args, args.model, work_through)


def _free_to_write(work: Work, args: BounceArgs, found: Sequence[Song]) -> deque[Song]:
    """The songs to be done. Raises OutputExists before any work."""
    written = outputs(work.stems)
    wanted = [song for song in found if not (args.skip_done and song.is_done(written, args.format))]
    if not args.overwrite:
        songs.require_free(wanted, written, args.format)
    return deque(wanted)


async def _bounce_all(work: Work, remaining: deque[Song], failures: list[StemlineError]) -> None:
    """What is wrong with one is told and noted, and does not keep the others from being done."""
    count = len(remaining)
    while remaining:
        song = remaining[0]
        number = count - len(remaining) + 1
        label = song.source.name if count == 1 else f"{number}/{count} {song.source.name}"
        try:
            with console.separation_progress() as progress:  # gone from the screen before anything else is printed
                paths = await bounce_song(work, song, progress, label)
        except StemlineError as error:
            if error.reason in _ENDS_THE_BATCH:
                raise
            named = "" if str(song.source) in str(error) else f"{song.source}: "
            console.say(f"stemline bounce: {named}{error}")
            failures.append(error)
        else:
            for path in paths:
                console.stdout.print(str(path))
        remaining.popleft()
