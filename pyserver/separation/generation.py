"""Runs one generation: window after window, each a walk from noise that is made a few steps at a time.

The state of a walk travels with its requests, so the engine keeps nothing: live windows get in between two requests, a
cancelled job stops there, and an engine that has died is asked again. Only whole windows are kept on the disk.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from pyserver.engine.messages import Audio, WalkRequest, WalkResult
from pyserver.models.card import ModelCard
from pyserver.separation.job import JobSpec, StemOutput
from pyserver.separation.job_files import JobFiles
from pyserver.separation.piece import Piece
from pyserver.separation.piece_plan import PieceWindow
from pyserver.separation.tasks import to_the_end

# How long a run of steps is to take: as long may a cancelled job keep the engine busy, or live windows wait for it.
SEGMENT_S, BRIEF_SEGMENT_S = 0.5, 0.1

Walk = Callable[[WalkRequest], Awaitable[WalkResult]]
Report = Callable[[int], Awaitable[None]]
"""Told how many of the client's samples the work done so far amounts to."""


class Generation:
    """One job's run through the model, from whatever an earlier one has left."""

    def __init__(
        self, files: JobFiles, spec: JobSpec, card: ModelCard, walk: Walk, report: Report, *, brief: bool = False
    ) -> None:
        """`brief` where live windows have to wait for a run of steps."""
        self._segment_s = BRIEF_SEGMENT_S if brief else SEGMENT_S
        self._files, self._spec, self._card = files, spec, card
        self._walk, self._report = walk, report
        self._step_s: float | None = None  # what a step has last cost

    async def run(self) -> tuple[StemOutput, ...]:
        """The finished files. Cancelled, it stops within a segment, with all windows that are finished on disk."""
        piece = await asyncio.to_thread(Piece, self._files, self._spec, self._card)
        await _driven(piece.prepare())
        for index in range(piece.windows, piece.plan.count):
            window = piece.plan[index]
            stems_SL = await self._walked(piece, window)
            await to_the_end(asyncio.to_thread(piece.push, window, stems_SL))
        await _driven(piece.finish())
        return piece.outputs

    async def _walked(self, piece: Piece, window: PieceWindow) -> Audio:
        sources_SL, mask_SL = await asyncio.to_thread(piece.cut, window)
        x_SP: Audio | None = None
        steps, first = self._spec.refiner_steps, 0
        while first < steps:
            stop = min(first + self._segment(), steps)
            result = await self._walk(
                WalkRequest(
                    model=self._spec.model,
                    sources_SL=sources_SL,
                    mask_SL=mask_SL,
                    position=window.start,
                    noise_seed=self._spec.noise_seed,
                    steps=steps,
                    first=first,
                    stop=stop,
                    x_SP=x_SP,
                )
            )
            self._step_s = result.compute_s / (stop - first)
            x_SP, first = result.x_SP, stop
            share = (window.index + first / steps) / piece.plan.count
            await self._report(int(share * self._spec.num_samples))
        assert x_SP is not None, "a walk has steps"
        return x_SP

    def _segment(self) -> int:
        """How many steps next. The result does not depend on it."""
        return 1 if self._step_s is None else max(1, int(self._segment_s / max(self._step_s, 1e-6)))


async def _driven(work: Iterator[None]) -> None:
    """To its end, in threads; cancelled, it stops between two steps."""
    while await to_the_end(asyncio.to_thread(next, work, work)) is not work:
        pass
