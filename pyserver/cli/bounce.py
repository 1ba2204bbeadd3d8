"""`bounce`: songs in, stems out, through a server's Bounce service.

A job is named by what goes into it (the audio's hash, model, weights, settings) and where its stems go, so the same
command finds the job that an earlier one began, whatever became of that command or of the server.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import google_crc32c
import tyro
from rich.progress import Progress
from stems.v1 import audio_pb2, bounce_pb2, models_pb2

from pyserver.audio.files import AudioFile, Block
from pyserver.cli import console, songs
from pyserver.cli.client import ServerArgs, ServerLost, UsageError, described_model, losing_server, server_for
from pyserver.cli.exits import Exit, exit_code
from pyserver.cli.songs import Song
from pyserver.cli.stem_files import RESIDUAL, save_stems
from pyserver.errors import StemlineError
from pyserver.separation.errors import StemUnknown
from pyserver.service.channel import CHUNK_BYTES, Connection, UntrustedServer, remote_error

_CANCEL_LIMIT_S = 5.0
_RETRY_S = 0.3
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
    _cancel_on_sigterm()
    found, problems = await asyncio.to_thread(songs.collect, args.songs, args.output)
    songs.require_distinct(found)
    failures = list(problems)
    for problem in problems:
        console.say(f"stemline bounce: {problem}")
    remaining: deque[Song] | None = None
    while found and (remaining is None or remaining):
        try:
            async with server_for(args, args.model) as connection:
                work = await _prepared(connection, args)
                if remaining is None:
                    remaining = _free_to_write(work, found)
                await _bounce_all(work, remaining, failures)
        except ServerLost as error:
            # Other people's servers may be shut down in mid-work; a dead one is for the user to hear of.
            if not error.shut_down or args.server is not None:
                raise
            console.say("the server was shut down; going on with another one")
            await asyncio.sleep(_RETRY_S)
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


def _cancel_on_sigterm() -> None:
    if sys.platform != "win32":
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


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
        self._work, self._song, self._progress, self._label = work, song, progress, label
        self._task = progress.add_task(label, total=None, speed="", left="")
        self._stub = work.connection.bounce

    async def run(self) -> list[Path]:
        """The finished files. Cancelled, it cancels the job and leaves no file."""
        self._show("reading")
        audio = await asyncio.to_thread(AudioFile, self._song.source)
        request = await self._request(audio)
        with losing_server(f"{self._song.source} was being separated"):
            job = await self._stub.CreateJob(request)
            try:
                if job.state == bounce_pb2.JOB_STATE_AWAITING_INPUT:
                    await self._upload(audio, job)
                job = await self._finished(job.job_id, audio)
                self._show("saving")
                paths = await save_stems(self._stub, job, self._song, audio, self._work.args.format)
            except asyncio.CancelledError:
                await asyncio.shield(self._cancel(job.job_id))
                raise
            await self._stub.DeleteJob(bounce_pb2.DeleteJobRequest(job_id=job.job_id))
        return paths

    async def _request(self, audio: AudioFile) -> bounce_pb2.CreateJobRequest:
        digest = hashlib.sha256()
        async for block in _blocks(audio):
            digest.update(block.tobytes())
        args, model = self._work.args, self._work.model
        quality = audio_pb2.Quality(noise_seed=args.seed)
        if args.steps is not None:
            quality.refiner_steps = args.steps
        settings = (model.name, model.weights_sha256, args.steps, args.seed, self._work.stems)
        shape = (audio.sample_rate_hz, audio.channels, audio.num_samples)
        name = json.dumps((digest.hexdigest(), shape, settings, str(self._song.directory.absolute())))
        return bounce_pb2.CreateJobRequest(
            request_id="bounce-" + hashlib.sha256(name.encode()).hexdigest(),
            model=model.name,
            quality=quality,
            audio=audio_pb2.AudioSpec(
                sample_rate_hz=audio.sample_rate_hz, channels=audio.channels, format=audio_pb2.SAMPLE_FORMAT_F32_LE
            ),
            num_samples=audio.num_samples,
            stems=self._work.stems,
        )

    async def _upload(self, audio: AudioFile, job: bounce_pb2.Job) -> None:
        self._show("sending")

        async def messages() -> AsyncIterator[bounce_pb2.UploadRequest]:
            yield bounce_pb2.UploadRequest(job_id=job.job_id)
            offset = 0
            async for block in _blocks(audio, CHUNK_BYTES // (4 * audio.channels)):
                data = block.tobytes()[max(0, job.committed_bytes - offset) :]
                offset += block.nbytes
                if data:
                    chunk = bounce_pb2.UploadChunk(
                        offset=offset - len(data), data=data, crc32c=google_crc32c.value(data)
                    )
                    yield bounce_pb2.UploadRequest(chunk=chunk)

        await self._stub.UploadInput(messages())

    async def _finished(self, job_id: str, audio: AudioFile) -> bounce_pb2.Job:
        """Follows the job to its end. Raises why it failed."""
        job = bounce_pb2.Job()
        async for event in self._stub.WatchJob(bounce_pb2.WatchJobRequest(job_id=job_id)):
            job = event.job
            self._show_progress(job.progress, audio)
        if job.state == bounce_pb2.JOB_STATE_SUCCEEDED:
            return job
        if job.state == bounce_pb2.JOB_STATE_CANCELLED:
            raise remote_error("JOB_CANCELLED", "somebody else cancelled the job", {})
        raise remote_error(job.error.reason or "JOB_FAILED", job.error.message, dict(job.error.metadata))

    async def _cancel(self, job_id: str) -> None:
        with contextlib.suppress(Exception):  # whatever happens now, the user has been told that it is over
            await self._stub.CancelJob(bounce_pb2.CancelJobRequest(job_id=job_id), timeout=_CANCEL_LIMIT_S)

    def _show(self, what: str) -> None:
        self._progress.update(self._task, description=f"{self._label}: {what}", speed="", left="")

    def _show_progress(self, at: bounce_pb2.Progress, audio: AudioFile) -> None:
        elapsed = at.elapsed.ToNanoseconds() / 1e9
        speed = at.done_samples / audio.sample_rate_hz / elapsed if elapsed > 0 else 0.0
        left = at.remaining.ToNanoseconds() / 1e9
        self._progress.update(
            self._task,
            description=f"{self._label}: separating",
            completed=at.done_samples,
            total=at.total_samples or None,
            speed=f"{speed:.1f}× real time" if speed else "",
            left=f"{console.clock(left)} left" if at.HasField("remaining") else "",
        )


async def _blocks(audio: AudioFile, frames: int = 1 << 16) -> AsyncIterator[Block]:
    """Blocks of a file, each read in a thread, so that a cancellation waits for one block and not for the song."""
    blocks = audio.blocks(frames)
    following = functools.partial(next, blocks, None)
    while (block := await asyncio.to_thread(following)) is not None:
        yield block
