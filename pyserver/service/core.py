"""What the services share: the engine, the queue, the jobs, and whether the server is starting, serving or draining."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from pyserver.engine.errors import ModelCannot
from pyserver.engine.process import EngineProcess
from pyserver.errors import StemlineError
from pyserver.models import catalogue
from pyserver.models.card import ModelCard
from pyserver.separation.bounce import BounceRunner
from pyserver.separation.scheduler import Scheduler
from pyserver.service.auth import FREE
from pyserver.service.errors import Within

Item = TypeVar("Item")


class ShuttingDown(StemlineError):
    """The server is going; jobs stay on disk and go on with the next one."""

    reason = "SHUTTING_DOWN"

    def __init__(self) -> None:
        super().__init__("the server is shutting down; jobs go on when it is started again")


@dataclass(kw_only=True)
class Core:
    """The working parts behind every service. `warm` is set once the engine can work, `draining` when it must not."""

    engine: EngineProcess
    scheduler: Scheduler
    runner: BounceRunner
    token: str
    default_model: str
    max_live_sessions: int
    start_time_s: float
    warm: asyncio.Event = field(default_factory=asyncio.Event)
    draining: asyncio.Event = field(default_factory=asyncio.Event)

    async def card(self, model: str, ability: str = "") -> ModelCard:
        """The card of `model`, or of the default if it is empty; raises what the catalogue raises.

        With an `ability`, raises ModelCannot for a model without it.
        """
        card = (await asyncio.to_thread(catalogue.find, model or self.default_model)).card
        if ability and ability not in card.abilities:
            raise ModelCannot(card.name, ability, card.abilities)
        return card

    def refuse_if_draining(self) -> None:
        if self.draining.is_set():
            raise ShuttingDown


def when_warm(core: Core) -> Within:
    """The interceptor that lets calls wait until the engine is ready, and turns them away once the server is going."""

    @asynccontextmanager
    async def scope(context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
        core.refuse_if_draining()
        await core.warm.wait()
        yield

    return Within(scope, free=FREE)


async def until_draining(core: Core, items: AsyncIterator[Item]) -> AsyncIterator[Item]:
    """`items` as they come; raises ShuttingDown as soon as the server drains, even if none is coming."""
    drained = asyncio.create_task(core.draining.wait())
    following: asyncio.Task[Item] | None = None
    try:
        while True:
            following = asyncio.ensure_future(_next(items))
            await asyncio.wait({following, drained}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                raise ShuttingDown
            try:
                item = following.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        for task in (drained, following):
            if task is not None:
                task.cancel()


async def _next(items: AsyncIterator[Item]) -> Item:
    return await anext(items)
