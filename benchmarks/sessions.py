"""A server after many live sessions must be as large as after few:

    python -m benchmarks.sessions                  # 2,000 sessions, a minute or two

Each plays a second of sound as fast as it is taken; by the first thousand every pool of threads is full. Of three
sessions one is given up in the middle, as by a host that dies, the others end properly. Memory is what the server's
processes do not share with others.
"""

import asyncio
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.serving import INSTANT, Running, serving, write_instant_models
from benchmarks.table import Row, show
from benchmarks.transport import RATE_HZ, SHORTEST_USE, settings
from pyserver.cli.live_stream import LiveClient
from pyserver.service.channel import Connection, connect

AT_ONCE = 8
SECONDS_EACH = 1.0
SETTLED_S = 7.0
"""By then what was given up is noticed, and an idle engine has given back the memory of windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    few: int = 1000
    many: int = 2000


@dataclass(frozen=True, slots=True)
class Size:
    memory: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, server: Running) -> "Size":
        processes = [server.process, *server.process.children(recursive=True)]
        return cls(
            server.unique_bytes(),
            sum(process.num_threads() for process in processes),
            sum(process.num_fds() for process in processes),
        )


async def play(connection: Connection, number: int) -> None:
    """One session."""
    client = LiveClient(connection, settings(SHORTEST_USE, number))
    running = asyncio.create_task(client.run())
    await client.ready
    block_NC = np.full((SHORTEST_USE.block, 2), 0.1, np.float32)
    for _ in range(round(SECONDS_EACH * RATE_HZ / SHORTEST_USE.block)):
        client.exchange(block_NC)
    if number % 3:
        client.finish()
        await running
    else:
        await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def sessions(server: Running, numbers: Iterable[int]) -> None:
    waiting = iter(numbers)

    async def one_after_another(connection: Connection) -> None:
        for number in waiting:
            await play(connection, number)

    async with await connect(server.target) as connection:
        await asyncio.gather(*(one_after_another(connection) for _ in range(AT_ONCE)))
    await asyncio.sleep(SETTLED_S)


def rows(arguments: Arguments) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        found_by = write_instant_models(Path(name) / "models")
        with serving(Path(name) / "home", ("--model", INSTANT), found_by) as server:
            asyncio.run(sessions(server, range(arguments.few)))
            few = Size.of(server)
            asyncio.run(sessions(server, range(arguments.few, arguments.many)))
            many = Size.of(server)
    what, against = f"a server after {arguments.many} live sessions", f"after {arguments.few}"
    return [
        Row(f"{what}: memory", f"{against}, {few.memory / 1e6:.0f} MB", many.memory / few.memory, 1.05),
        Row(f"{what}: threads", f"{against}, {few.threads}", many.threads / few.threads, 1.05),
        Row(f"{what}: open files", f"{against}, {few.descriptors}", many.descriptors / few.descriptors, 1.05),
    ]


if __name__ == "__main__":
    show({"python -m benchmarks.sessions": rows(tyro.cli(Arguments))})
