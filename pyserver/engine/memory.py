"""Memory that runs out: foreseen before a model is loaded, and met with smaller batches."""

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import torch

from pyserver.engine.errors import EngineOutOfMemory
from pyserver.engine.messages import Audio
from pyserver.models.catalogue import InstalledModel

log = logging.getLogger(__name__)

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Of this process, as a container sees its own (version 2)."""


def free_and_total(device: torch.device) -> tuple[int, int]:
    """Bytes of the device's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def _container_free() -> float:
    """Bytes that the container's limit leaves, if there is one: whoever goes beyond them is killed. The page cache that
    counts as its own can be had back."""
    with suppress(OSError, ValueError, KeyError):
        limit = int((CONTROL_GROUP / "memory.max").read_text(encoding="ascii"))  # "max" where there is none
        used = int((CONTROL_GROUP / "memory.current").read_text(encoding="ascii"))
        lines = (CONTROL_GROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = int(dict(line.split() for line in lines)["inactive_file"])
        return max(0, limit - used + cached)
    return math.inf


def require_room(installed: InstalledModel, device: torch.device) -> None:
    """Raises EngineOutOfMemory where a model's weights alone would not fit: who tries may be killed by the kernel."""
    needed, (free, _) = installed.file_bytes, free_and_total(device)
    if device.type == "cpu":
        free = int(min(free, _container_free()))
    if needed > free:
        raise EngineOutOfMemory(
            f"model {installed.card.name} needs {needed / 1e9:.1f} GB for its weights and {free / 1e9:.1f} GB are "
            f"available ({device}); close other programs, unload another model or choose a smaller one",
            needed_bytes=needed,
            available_bytes=free,
        )


def is_out_of_memory(error: BaseException | None) -> bool:
    """In the words of PyTorch's allocator for CPUs and of ONNX Runtime: "allocate memory"."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)


class FittingBatches:
    """How many items of a length fit into memory at once, learnt by running out of it: what does not fit is halved."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._most: dict[int, int] = {}  # by length; where there is none, everything has fitted so far

    def most(self, length: int, count: int) -> int:
        """Of `count` items."""
        return min(count, self._most.get(length, count))

    def compute(self, length: int, count: int, batch: Callable[[slice], Audio]) -> Audio:
        """What `batch` gives for all items, in as few calls as fit. Raises what it raises for a single item.

        A network may round differently in a smaller batch: the last bits tell that memory was short.
        """
        parts: list[Audio] = []
        done = 0
        while done < count:
            part = slice(done, done + self.most(length, count - done))
            found = _if_it_fits(batch, part)
            if found is None:
                self._halve(length, part.stop - part.start)
                continue
            parts.append(found)
            done = part.stop
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _halve(self, length: int, size: int) -> None:
        self._most[length] = size // 2
        log.warning(
            "memory does not suffice for %d windows or channel groups of model %s at once: from now on %d",
            size,
            self._model,
            size // 2,
        )


def _if_it_fits(batch: Callable[[slice], Audio], part: slice) -> Audio | None:
    try:
        return batch(part)
    except Exception as error:
        if part.stop - part.start == 1 or not is_out_of_memory(error):
            raise
    # Not while the error is handled: it keeps alive what was computed so far.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
