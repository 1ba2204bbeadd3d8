"""`live`: what comes in through the sound card goes through a server's live session, chosen stems come out."""

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from pyserver.audio.files import AudioFile, AudioWriter, Block
from pyserver.cli import console
from pyserver.cli.client import ServerArgs, UsageError, described_model, server_for
from pyserver.cli.exits import Exit
from pyserver.cli.live_stream import LiveClient, LiveSettings
from pyserver.cli.sound_card import SoundCard, devices
from pyserver.collector import pass_over_what_is_imported
from pyserver.separation.errors import StemUnknown
from pyserver.service.channel import Connection, remote_errors

SILENCE = "silence"


@dataclass(frozen=True, kw_only=True)
class LiveArgs(ServerArgs):
    """Where sound comes from and goes to, and what is done to it."""

    list_devices: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Name the sound devices and stop."""
    input: str | None = None
    """Sound device to listen to: index or part of its name."""
    output: str | None = None
    """Sound device to play on."""
    rate: int = 44100
    """Sample rate of the sound card (Hz)."""
    block: int = 512
    """Samples a block."""
    model: str | None = None
    """Which model; default: the server's."""
    stems: str = ""
    """Stems to be heard, separated by commas; default: all."""
    steps: int | None = None
    """Refiner steps; default: the model's own."""
    seed: int = 0
    """Of the refiner's noise."""
    latency: float | None = None
    """The longest latency to accept, in seconds; default: the shortest that this machine can hold."""
    null: str | None = None
    """No sound card: take the input from this file, or "silence", at the pace of real time."""
    record: Path | None = None
    """Write what is played to this WAV file."""
    seconds: float | None = None
    """Stop after so many seconds of input."""


def live(args: LiveArgs) -> int:
    """Separate what comes in through the sound card and play the chosen stems."""
    if args.list_devices:
        found = devices()
        for line in found:
            console.stdout.print(line)
        if not found:
            console.say("there are no sound devices")
        return Exit.OK
    if args.null == SILENCE and args.seconds is None:
        raise UsageError("--null silence has no end: give --seconds")
    try:
        return asyncio.run(_live(args))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return Exit.OK  # the way to end it


async def _live(args: LiveArgs) -> int:
    task = asyncio.current_task()
    assert task is not None
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    source = _Source(args)  # what is wrong with a file or a device is told before a server is started
    async with server_for(args, args.model) as connection:
        model = await described_model(connection, args.model)
        stems = [name.strip() for name in args.stems.split(",") if name.strip()]
        for name in stems:
            if name not in model.stems:
                raise StemUnknown(f'model {model.name} has no stem "{name}", only {", ".join(model.stems)}', stem=name)
        settings = LiveSettings(
            model=model.name,
            sample_rate_hz=source.sample_rate_hz,
            channels=source.channels,
            block_samples=args.block,
            stems=stems,
            steps=args.steps,
            seed=args.seed,
            max_latency_s=args.latency,
        )
        await _session(connection, settings, source, args)
    return Exit.OK


class _Source:
    """Where the input comes from: a file, silence, or the sound card (`card`)."""

    def __init__(self, args: LiveArgs) -> None:
        self._args = args
        self.file = AudioFile(Path(args.null)) if args.null not in (None, SILENCE) else None
        self.card = SoundCard(args.input, args.output, args.rate, args.block) if args.null is None else None
        self.sample_rate_hz = self.file.sample_rate_hz if self.file else args.rate
        self.channels = self.file.channels if self.file else self.card.channels if self.card else 2

    @property
    def num_samples(self) -> int:
        """How much there will be; where nobody knows, more than a plain WAV could hold, which makes it an RF64."""
        if self._args.seconds is not None:
            return round(self._args.seconds * self.sample_rate_hz)
        return self.file.num_samples if self.file else 1 << 32

    def blocks(self, tail_samples: int) -> Iterator[Block]:
        """The null device's input, whole blocks, then silence until the last of it has been played."""
        size = self._args.block
        limit = None if self._args.seconds is None else round(self._args.seconds * self.sample_rate_hz)
        given = 0
        for block in self.file.blocks(size) if self.file else self._silence():
            block = block[: None if limit is None else limit - given]
            given += len(block)
            if len(block) < size:
                break
            yield block
        else:
            block = np.zeros((0, self.channels), np.float32)
        rest = np.concatenate([block, np.zeros((tail_samples, self.channels), np.float32)])
        for start in range(0, len(rest), size):
            yield rest[start : start + size]

    def _silence(self) -> Iterator[Block]:
        while True:
            yield np.zeros((self._args.block, self.channels), np.float32)


async def _session(connection: Connection, settings: LiveSettings, source: _Source, args: LiveArgs) -> None:
    client = LiveClient(connection, settings)
    pass_over_what_is_imported()
    with ExitStack() as closing, remote_errors(connection.target.address):
        running = asyncio.create_task(client.run())
        closing.callback(running.cancel)
        ready = await client.ready
        _say_ready(ready.latency_samples / settings.sample_rate_hz, ready.device, args.stems or ", ".join(ready.stems))
        recorder = None
        if args.record is not None:
            size = source.num_samples + ready.latency_samples
            recorder = closing.enter_context(AudioWriter(args.record, source.sample_rate_hz, source.channels, size))
        playing = asyncio.create_task(_play(client, source, recorder, args))
        closing.callback(playing.cancel)
        try:
            await asyncio.wait({running, playing}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                playing.result()
                client.finish()
            await running
        finally:
            _say_how_it_went(client, settings)


async def _play(client: LiveClient, source: _Source, recorder: AudioWriter | None, args: LiveArgs) -> None:
    def exchange(block_NC: Block) -> Block:
        out_NC = client.exchange(block_NC)
        if recorder is not None:
            recorder.write(out_NC)
        return out_NC

    if source.card is not None:
        await source.card.run(exchange, args.seconds)
        return
    begin, given = time.monotonic(), 0
    for block in source.blocks(client.latency_samples):
        given += len(block)
        await asyncio.sleep(max(0.0, begin + given / source.sample_rate_hz - time.monotonic()))
        exchange(block)


def _say_ready(latency_s: float, device: str, stems: str) -> None:
    console.say(f"live on {device}: {stems}, {latency_s * 1000:.0f} ms later; Ctrl-C ends it")


def _say_how_it_went(client: LiveClient, settings: LiveSettings) -> None:
    for notice in dict.fromkeys(client.notices):
        console.say(f"{notice} ({client.notices.count(notice)}×)")
    missing = client.missing_samples / settings.sample_rate_hz
    console.say(f"missing: {missing * 1000:.0f} ms" if client.missing_samples else "nothing was missing")
