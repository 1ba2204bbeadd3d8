"""Core networks as CUDA graphs: one launch for all of a core's kernels, whose launching is most of what a short window
costs on a GPU.

A graph is bound to its shapes and to its memory, so those of known windows are captured when a model is loaded, and
every other call is computed as it comes. A graph that does not give the very bits that were computed without it is not
used, and nothing that can go wrong with capturing is more than a line in the log.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyserver.models.cores import Core, Structure, cores, put_together, surround, take_apart
from pyserver.models.interface import AnyModel

log = logging.getLogger(__name__)

Compute = Callable[..., Any]
Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes what is to be captured, which puts its results where they are to lie, and returns what does it again."""
_Signature = tuple[tuple[torch.Size, torch.dtype], ...]


def capture_on(device: torch.device) -> Capture | None:
    """None where there are no such graphs."""
    return _Cuda(device) if device.type == "cuda" else None


class _Cuda:
    """`Capture` on a GPU. The graphs of a model share their memory: they never run at the same time, and what one gives
    is copied before the next one runs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # Not "global": another thread may allocate for another model meanwhile.
        with (
            torch.cuda.device(self._device),
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            compute()
        return graph.replay


@dataclass(frozen=True, slots=True)
class _Captured:
    """`given` and `made` are the memory that it reads and writes."""

    replay: Callable[[], None]
    given: Sequence[Tensor]
    made: Sequence[Tensor]
    structure: Structure

    def __call__(self, given: Sequence[Tensor]) -> Any:
        for own, theirs in zip(self.given, given, strict=True):
            own.copy_(theirs)
        self.replay()
        return put_together(self.structure, (tensor.clone() for tensor in self.made))


class GraphedCores:
    """Around the cores of a model that has some, outside of whatever else surrounds them. Nothing is captured at
    first; from several threads, which all compute on one stream."""

    def __init__(self, model: AnyModel, architecture: str, capture: Capture) -> None:
        self._capture = capture
        self._captures, self._replays = False, True
        self._graphs: dict[tuple[str, _Signature], _Captured] = {}
        self._lock = threading.Lock()  # from the copy into a graph's memory to that out of it
        for core in cores(model, architecture):
            surround(model, core, functools.partial(self._around, core))

    def __len__(self) -> int:
        """How many graphs there are."""
        return len(self._graphs)

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        """Whatever a core is called with in this context will have a graph from then on. For one thread."""
        self._captures = True
        try:
            yield
        finally:
            self._captures = False

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """For as long as the context lasts, and for all threads."""
        self._replays = False
        try:
            yield
        finally:
            self._replays = True

    def _around(self, core: Core, compute: Compute) -> Compute:
        def computed(*positional: Any, **named: Any) -> Any:
            if not self._replays:
                return compute(*positional, **named)
            given: list[Tensor] = []
            structure = take_apart((positional, named), given)
            key = core.path, tuple((tensor.shape, tensor.dtype) for tensor in given)
            graph = self._graphs.get(key)
            if graph is not None:
                with self._lock:
                    return graph(given)
            if not self._captures:
                return compute(*positional, **named)
            own = [tensor.clone() for tensor in given]  # before a network writes into what it was given
            made = compute(*positional, **named)  # also warms up what a capture must not see for the first time
            with self._lock:
                graph = self._captured(core, compute, structure, own, made)
            if graph is not None:
                self._graphs[key] = graph
            return made

        return computed

    def _captured(
        self, core: Core, compute: Compute, structure: Structure, given: Sequence[Tensor], expected: Any
    ) -> _Captured | None:
        """None where it cannot be captured, or gives anything else than it is expected to."""
        own, made = [tensor.clone() for tensor in given], []  # type: list[Tensor], list[Tensor]
        outputs: list[Structure] = []

        def compute_in_place() -> None:
            positional, named = put_together(structure, iter(own))
            made.clear()
            outputs[:] = [take_apart(compute(*positional, **named), made)]

        try:
            replay = self._capture(compute_in_place)
            graph = _Captured(replay, own, made, outputs[0])
            found: list[Tensor] = []
            wanted: list[Tensor] = []
            take_apart(graph(given), found)
            take_apart(expected, wanted)
            if all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)):
                return graph
            log.warning("the CUDA graph of %s gives other bits and is not used", core.path)
        except RuntimeError as error:
            log.warning("%s cannot be captured as a CUDA graph: %s", core.path, error)
        return None
