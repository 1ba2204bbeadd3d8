"""One song to its stems through a server's Bounce service, wherever the song is and the stems are to be."""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress
from stems.v1 import audio_pb2, bounce_pb2, models_pb2

from pyserver.audio.files import AudioFile, writing_to
from pyserver.cli.client import described_model, losing_server
from pyserver.cli.job_run import JobRun, digest_of, request_id
from pyserver.cli.places import AnyPath, RemotePath
from pyserver.cli.songs import Song
from pyserver.cli.stem_files import RESIDUAL, save_stems
from pyserver.errors import StemlineError
from pyserver.separation.errors import StemUnknown
from pyserver.service.channel import Connection, remote_error

_SCRATCH_PREFIX = "stemline-song-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the stems of all songs of one command are to be made. `model` None: the server's default."""

    model: str | None
    steps: int | None
    seed: int
    format: str
    stems: str  # as it was typed


@dataclass(frozen=True, slots=True)
class Work:
    """What all songs share that go through one connection."""

    connection: Connection
    model: models_pb2.Model
    stems: tuple[str, ...]
    settings: Settings
    scratch: Path | None = None  # for copies of remote songs; None: where the system keeps temporary files


async def prepared(connection: Connection, settings: Settings, scratch: Path | None = None) -> Work:
    """Raises what `described_model` raises, and StemUnknown."""
    model = await described_model(connection, settings.model)
    return Work(connection, model, wanted_stems(settings.stems, model.name, model.stems), settings, scratch)


def wanted_stems(given: str, model: str, known: Sequence[str]) -> tuple[str, ...]:
    """In the order of the model. Raises StemUnknown."""
    wanted = [name.strip() for name in given.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise StemUnknown(f'model {model} has no stem "{name}", only {", ".join(known)}', stem=name)
    return tuple(stem for stem in known if stem in wanted or not wanted)


def outputs(stems: Sequence[str]) -> tuple[str, ...]:
    """What is written of a song."""
    return (*stems, RESIDUAL)


async def bounce_song(work: Work, song: Song, progress: Progress, label: str) -> list[AnyPath]:
    """The finished files. Cancelled, it cancels the job and leaves no file."""
    if isinstance(song.source, Path) and isinstance(song.directory, Path):
        return [*await _separated(work, song, song.source, song.directory, progress, label)]
    async with parts_of(song) as parts:
        names = await bounce_into(work, song, parts, progress, label)
        return await published(parts, names, song.directory)


async def bounce_into(work: Work, song: Song, parts: AnyPath, progress: Progress, label: str) -> list[str]:
    """Names of the song's finished files, which lie in the folder `parts` and not yet in their place."""
    if isinstance(song.source, Path) and isinstance(parts, Path):
        return [path.name for path in await _separated(work, song, song.source, parts, progress, label)]
    with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=work.scratch) as folder:
        copy = Path(folder) / song.source.name
        source = song.source if isinstance(song.source, Path) else await asyncio.to_thread(song.source.fetch, copy)
        stems = parts if isinstance(parts, Path) else Path(folder) / "stems"
        try:
            paths = await _separated(work, song, source, stems, progress, label)
        except StemlineError as error:  # the user knows the song by another name than the copy's
            raise remote_error(error.reason, str(error).replace(str(copy), str(song.source)), error.metadata) from error
        if isinstance(parts, RemotePath):
            for path in paths:
                await asyncio.to_thread((parts / path.name).put, path)
        return [path.name for path in paths]


@asynccontextmanager
async def parts_of(song: Song) -> AsyncIterator[AnyPath]:
    """A folder in the song's own, of a name that nobody else has; gone in the end, with all that is still in it."""
    parts = song.directory / f".{secrets.token_hex(4)}.part"
    try:
        yield parts
    finally:
        await asyncio.shield(asyncio.to_thread(_remove, parts))


async def published(parts: AnyPath, names: Sequence[str], directory: AnyPath) -> list[AnyPath]:
    """Moves finished files to their place, the residual last. What stands there is always a whole file: a rename on
    this machine, and in an object store, which cannot rename, a copy that shows when it is complete.
    """
    return await asyncio.shield(asyncio.to_thread(_publish, parts, names, directory))


def _publish(parts: AnyPath, names: Sequence[str], directory: AnyPath) -> list[AnyPath]:
    for name in names:
        part, target = parts / name, directory / name
        if isinstance(part, Path) and isinstance(target, Path):
            with writing_to(target):
                part.replace(target)
        elif isinstance(part, RemotePath) and isinstance(target, RemotePath):
            part.replace(target)
    return [directory / name for name in names]


def _remove(parts: AnyPath) -> None:
    """With whatever a worker that is lost has left there. What resists is hidden, and in nobody's way."""
    if isinstance(parts, Path):
        shutil.rmtree(parts, ignore_errors=True)
        with contextlib.suppress(OSError):
            parts.parent.rmdir()  # if nothing else is there
        return
    with contextlib.suppress(StemlineError):
        parts.remove_all()


async def _separated(
    work: Work, song: Song, source: Path, directory: Path, progress: Progress, label: str
) -> list[Path]:
    """Through the server, from a file of this machine into a directory of it."""
    job, stub = JobRun(work.connection.bounce, progress, label, "separating"), work.connection.bounce
    job.show("reading")
    audio = await asyncio.to_thread(AudioFile, source)
    request = await _request(work, song, audio)
    with losing_server(f"{song.source} was being separated"):
        return await job.run(
            stub.CreateJob(request),
            audio,
            audio.sample_rate_hz,
            lambda done: save_stems(stub, done, directory, audio, work.settings.format),
        )


async def _request(work: Work, song: Song, audio: AudioFile) -> bounce_pb2.CreateJobRequest:
    digest = await digest_of(audio)
    settings, model = work.settings, work.model
    quality = audio_pb2.Quality(noise_seed=settings.seed)
    if settings.steps is not None:
        quality.refiner_steps = settings.steps
    named = (model.name, model.weights_sha256, settings.steps, settings.seed, work.stems)
    shape = (audio.sample_rate_hz, audio.channels, audio.num_samples)
    where = song.directory.absolute() if isinstance(song.directory, Path) else song.directory
    return bounce_pb2.CreateJobRequest(
        request_id=request_id("bounce", digest, shape, named, str(where)),
        model=model.name,
        quality=quality,
        audio=audio_pb2.AudioSpec(
            sample_rate_hz=audio.sample_rate_hz, channels=audio.channels, format=audio_pb2.SAMPLE_FORMAT_F32_LE
        ),
        num_samples=audio.num_samples,
        stems=work.stems,
    )
