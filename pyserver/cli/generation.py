"""What `generate` and `accompany` share: a model that can do it, one job, its stems in a folder."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from stems.v1 import audio_pb2, generate_pb2, models_pb2

from pyserver.cli import console, songs
from pyserver.cli.client import ServerArgs, described_model, listed_models, losing_server, with_server
from pyserver.cli.exits import Exit
from pyserver.cli.job_run import JobRun, Source, cancel_on_sigterm, digest_of, request_id
from pyserver.cli.songs import Song
from pyserver.cli.stem_files import save_stems
from pyserver.engine.errors import ModelCannot
from pyserver.errors import StemlineError
from pyserver.models import catalogue
from pyserver.separation.errors import StemUnknown
from pyserver.service.channel import Connection, find_server

MIX = "mix"


class NoModelCan(StemlineError):
    """None of the models that are installed does what was asked for."""

    reason = "NO_MODEL_CAN"

    def __init__(self, ability: str) -> None:
        super().__init__(
            f"no model on this machine can {ability}; `stemline models list` says what each can, and docs/generate.md "
            "where such models come from",
            ability=ability,
        )


@dataclass(frozen=True, kw_only=True)
class GenerationArgs(ServerArgs):
    """How stems are to be made and written."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Stems are written to DIR/<stem>.wav."""
    model: str | None = None
    """Which model; default: the first that can."""
    steps: int | None = None
    """From noise to stems; more take longer; default: the model's own."""
    seed: int = 0
    """Of the noise. The same seed gives the same stems, another one gives others."""
    format: Literal["wav", "flac"] = "wav"
    """WAV is 32-bit float, FLAC 24 bit."""
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace stems that are already there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What is to be made by `model`. `source` holds the `known` stems, one after the other in each frame."""

    model: models_pb2.Model
    known: tuple[str, ...]
    source: Source | None
    written: tuple[str, ...]
    sample_rate_hz: int
    channels: int  # of each stem
    num_samples: int

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.written if self.known else (*self.written, MIX)


Plan = Callable[[models_pb2.Model], Piece]
"""From a model that can do it. Reads only what files say of themselves; raises what is wrong with them."""


def run(command: str, ability: str, args: GenerationArgs, plan: Plan) -> int:
    """The command as a whole, to its exit code."""
    try:
        asyncio.run(_run(command, ability, args, plan))
    except asyncio.CancelledError:  # SIGTERM; Ctrl-C arrives as KeyboardInterrupt
        console.say(f"stemline {command}: cancelled")
        return Exit.CANCELLED
    return Exit.OK


async def _run(command: str, ability: str, args: GenerationArgs, plan: Plan) -> None:
    cancel_on_sigterm()
    free = args.overwrite

    async def work(connection: Connection) -> list[Path]:
        nonlocal free
        piece = await asyncio.to_thread(plan, await _able(connection, args.model, ability))
        if not free:
            songs.require_free([Song(args.output, args.output)], piece.outputs, args.format, skippable=False)
            free = True
        return await _made(connection, piece, args, command)

    for path in await with_server(args, await asyncio.to_thread(_to_be_loaded, args, ability), work):
        console.stdout.print(str(path))


async def _made(connection: Connection, piece: Piece, args: GenerationArgs, command: str) -> list[Path]:
    """The finished files. Cancelled, it cancels the job and leaves no file."""
    with console.separation_progress() as progress:  # gone from the screen before anything else is printed
        job = JobRun(connection.bounce, progress, command, "making")
        job.show("reading")
        request = await _request(piece, args)
        with losing_server("the stems were being made"):
            return await job.run(
                connection.generate.CreateGeneration(request),
                piece.source,
                piece.sample_rate_hz,
                lambda job: save_stems(connection.bounce, job, args.output, piece, args.format),
            )


async def _request(piece: Piece, args: GenerationArgs) -> generate_pb2.CreateGenerationRequest:
    digest = await digest_of(piece.source) if piece.source else ""
    model, shape = piece.model, (piece.sample_rate_hz, piece.channels, piece.num_samples)
    settings = (model.name, model.weights_sha256, args.steps, args.seed, piece.known, piece.written)
    return generate_pb2.CreateGenerationRequest(
        request_id=request_id("generate", digest, shape, settings, str(args.output.absolute())),
        model=model.name,
        steps=args.steps,
        noise_seed=args.seed,
        audio=audio_pb2.AudioSpec(
            sample_rate_hz=piece.sample_rate_hz, channels=piece.channels, format=audio_pb2.SAMPLE_FORMAT_F32_LE
        ),
        num_samples=piece.num_samples,
        known=piece.known,
        stems=piece.written,
    )


def _to_be_loaded(args: GenerationArgs, ability: str) -> str | None:
    """What a server of our own would load. Raises NoModelCan where there is nothing that it could."""
    if args.model is not None or args.server is not None:
        return args.model
    for entry in catalogue.list_models():
        if entry.installed is not None and ability in entry.installed.card.abilities:
            return entry.name
    if find_server() is None:
        raise NoModelCan(ability)
    return None


async def _able(connection: Connection, name: str | None, ability: str) -> models_pb2.Model:
    """The model of that name, or the first that has the ability. Raises ModelCannot, NoModelCan."""
    if name is not None:
        model = await described_model(connection, name)
        if ability not in model.abilities:
            raise ModelCannot(model.name, ability, model.abilities)
        return model
    for model in (await listed_models(connection)).models:
        if ability in model.abilities:
            return model
    raise NoModelCan(ability)


def require_stem(model: models_pb2.Model, stem: str) -> None:
    """Raises StemUnknown."""
    if stem not in model.stems:
        raise StemUnknown(f'model {model.name} has no stem "{stem}", only {", ".join(model.stems)}', stem=stem)
