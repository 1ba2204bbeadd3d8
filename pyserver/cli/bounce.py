"""`bounce`: songs in, stems out, through a server's Bounce service."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.progress import Progress
from stems.v1 import audio_pb2, bounce_pb2, models_pb2

from pyserver.audio.files import AudioFile
from pyserver.cli import console, songs
from pyserver.cli.client import ServerArgs, ServerLost, UsageError, described_model, losing_server, with_server
from pyserver.cli.exits import Exit, exit_code
from pyserver.cli.job_run import JobRun, cancel_on_sigterm, digest_of, request_id
from pyserver.cli.songs import Song
from pyserver.cli.stem_files import RESIDUAL, save_stems
from pyserver.errors import StemlineError
from pyserver.separation.errors import StemUnknown
from pyserver.service.channel import Connection, UntrustedServer

_ENDS_THE_BATCH = {ServerLost.reason, UntrustedServer.reason, "DISK_FULL", "WRONG_TOKEN", "MISSING_TOKEN"}


@dataclass(frozen=True, kw_only=True)
class BounceArgs(ServerArgs):
    """Songs, and how their stems are to be made and written."""

    songs: tyro.conf.Positional[tuple[Path, ...]]
    """Audio files, or folders to be searched for them."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
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


@dataclass(frozen=True, slots=True)
class _Work:
    """What all songs of one command share."""

    connection: Connection
    model: models_pb2.Model
    stems: tuple[str, ...]
    args: BounceArgs


def bounce(args: BounceArgs) -> int:
    """Separate songs into stems."""
    if not args.songs:
        raise UsageError("no songs were given; see stemline bounce --help")
    try:
        return asyncio.run(_bounce(args))
    except asyncio.CancelledError:  # SIGTERM; Ctrl-C arrives as KeyboardInterrupt
        console.say("stemline bounce: cancelled")
        return Exit.CANCELLED


async def _bounce(args: BounceArgs) -> int:
    cancel_on_sigterm()
    found, problems = await asyncio.to_thread(songs.collect, args.songs, args.output)
    songs.require_distinct(found)
    failures = list(problems)
    for problem in problems:
        console.say(f"stemline bounce: {problem}")
    remaining: deque[Song] | None = None

    async def work_through(connection: Connection) -> None:
        nonlocal remaining
        work = await _prepared(connection, args)
        if remaining is None:
            remaining = _free_to_write(work, found)
        await _bounce_all(work, remaining, failures)

    if found:
        await with_server(args, args.model, work_through)
    return exit_code(failures[0].reason) if failures else Exit.OK


async def _prepared(connection: Connection, args: BounceArgs) -> _Work:
    model = await described_model(connection, args.model)
    return _Work(connection, model, _wanted_stems(args.stems, model), args)


def _free_to_write(work: _Work, found: Sequence[Song]) -> deque[Song]:
    """The songs to be done. Raises OutputExists before any work."""
    outputs, args = (*work.stems, RESIDUAL), work.args
    wanted = [song for song in found if not (args.skip_done and song.is_done(outputs, args.format))]
    if not args.overwrite:
        songs.require_free(wanted, outputs, args.format)
    return deque(wanted)


def _wanted_stems(given: str, model: models_pb2.Model) -> tuple[str, ...]:
    wanted = [name.strip() for name in given.split(",") if name.strip()]
    for name in wanted:
        if name not in model.stems:
            raise StemUnknown(f'model {model.name} has no stem "{name}", only {", ".join(model.stems)}', stem=name)
    return tuple(stem for stem in model.stems if stem in wanted or not wanted)


async def _bounce_all(work: _Work, remaining: deque[Song], failures: list[StemlineError]) -> None:
    """One after another. What is wrong with one is told and noted, and does not keep the others from being done."""
    count = len(remaining)
    while remaining:
        song = remaining[0]
        number = count - len(remaining) + 1
        label = song.source.name if count == 1 else f"{number}/{count} {song.source.name}"
        try:
            with console.separation_progress() as progress:  # gone from the screen before anything else is printed
                paths = await _Bounce(work, song, progress, label).run()
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


class _Bounce:
    """One song on its way through the server."""

    def __init__(self, work: _Work, song: Song, progress: Progress, label: str) -> None:
        self._work, self._song = work, song
        self._stub = work.connection.bounce
        self._job = JobRun(self._stub, progress, label, "separating")

    async def run(self) -> list[Path]:
        """The finished files. Cancelled, it cancels the job and leaves no file."""
        self._job.show("reading")
        audio = await asyncio.to_thread(AudioFile, self._song.source)
        request = await self._request(audio)
        with losing_server(f"{self._song.source} was being separated"):
            return await self._job.run(
                self._stub.CreateJob(request),
                audio,
                audio.sample_rate_hz,
                lambda job: save_stems(self._stub, job, self._song, audio, self._work.args.format),
            )

    async def _request(self, audio: AudioFile) -> bounce_pb2.CreateJobRequest:
        digest = await digest_of(audio)
        args, model = self._work.args, self._work.model
        quality = audio_pb2.Quality(noise_seed=args.seed)
        if args.steps is not None:
            quality.refiner_steps = args.steps
        settings = (model.name, model.weights_sha256, args.steps, args.seed, self._work.stems)
        shape = (audio.sample_rate_hz, audio.channels, audio.num_samples)
        return bounce_pb2.CreateJobRequest(
            request_id=request_id("bounce", digest, shape, settings, str(self._song.directory.absolute())),
            model=model.name,
            quality=quality,
            audio=audio_pb2.AudioSpec(
                sample_rate_hz=audio.sample_rate_hz, channels=audio.channels, format=audio_pb2.SAMPLE_FORMAT_F32_LE
            ),
            num_samples=audio.num_samples,
            stems=self._work.stems,
        )
