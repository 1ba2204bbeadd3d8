"""Which back end computes a model: what was asked for, or the faster one on this machine, as it was once timed.

Nothing is timed and nothing exported while a server starts: `models export-onnx` does both, and what it finds is kept
until it finds something else. So a model has the same back end, and gives the same bits, from one start to the next.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pyserver.engine.devices import device_name
from pyserver.engine.measurements import read_json, replace_json
from pyserver.engine.messages import BackendChoice
from pyserver.engine.onnx_runtime import OnnxRuntimeMissing, Place, is_installed, provider_for, version
from pyserver.errors import StemlineError
from pyserver.models.catalogue import InstalledModel
from pyserver.models.cores import NoCores, has_cores
from pyserver.models.onnx_files import ExportMissing, FoundExport, export_command, find_export

log = logging.getLogger(__name__)

CHOICES_FILE = "backends.json"  # in the state directory
FASTER = 0.95
"""ONNX Runtime is chosen where it needs at most this share of PyTorch's time: less may be noise."""
_PAIRS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Seconds of one bounce window at the default quality."""

    torch_s: float
    onnx_s: float

    @property
    def ratio(self) -> float:
        return self.onnx_s / self.torch_s

    @property
    def onnx_is_faster(self) -> bool:
        return self.ratio <= FASTER


class Choices:
    """What was timed on this machine, in one JSON file. Without a path nothing is known and nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def find(self, found: FoundExport, place: Place) -> Timed | None:
        entry = read_json(self._path).get(self._key(found, place))
        try:
            return Timed(**entry) if isinstance(entry, dict) else None
        except TypeError:
            return None

    def keep(self, found: FoundExport, place: Place, timed: Timed) -> None:
        """Raises OSError."""
        if self._path is not None:
            replace_json(self._path, read_json(self._path) | {self._key(found, place): asdict(timed)})

    def _key(self, found: FoundExport, place: Place) -> str:
        """Not the number of threads: whoever gives the server fewer is not to have other bits for it."""
        machine = [device_name(place.device), place.provider, torch.__version__, version()]
        return hashlib.sha256(json.dumps([machine, found.export.token]).encode()).hexdigest()


def chosen_export(
    installed: InstalledModel, choice: BackendChoice, place: Place, choices: Choices
) -> FoundExport | None:
    """The export that is to compute a model, None where PyTorch is to.

    Only what was asked for by name fails: raises OnnxRuntimeMissing, NoCores, ExportMissing or ExportStale.
    """
    card = installed.card
    if choice in (BackendChoice.TORCH, BackendChoice.TORCH_HALF):
        return None
    if choice is not BackendChoice.AUTO:
        if not is_installed():
            raise OnnxRuntimeMissing
        if not has_cores(card.architecture):
            raise NoCores(card.name, card.architecture)
        return find_export(installed)
    try:
        found = find_export(installed)
    except ExportMissing:
        return None
    except StemlineError as error:
        log.warning("%s; until then PyTorch computes it", error)
        return None
    if not is_installed():
        log.info("model %s has an ONNX export, but ONNX Runtime is not installed", card.name)
        return None
    timed = choices.find(found, place)
    if timed is None:
        log.info("the ONNX export of %s was never timed on this machine: %s", card.name, export_command(card.name))
        return None
    return found if timed.onnx_is_faster else None


def described(installed: InstalledModel, device: torch.device, state_dir: Path) -> str:
    """In a sentence what is chosen for a model with an export, and why. Raises ExportMissing or ExportStale."""
    found, name = find_export(installed), installed.card.name
    place = Place(provider_for(device), device, 1)
    timed = Choices(state_dir / CHOICES_FILE).find(found, place)
    if timed is None:
        return f"{name} has one that was not timed with {place.provider} on this machine: {export_command(name)}"
    return verdict(name, place, timed)


def verdict(model: str, place: Place, timed: Timed) -> str:
    which = place.provider if timed.onnx_is_faster else f"torch-{place.device.type}"
    return f"{place.provider} takes {timed.ratio:.2f} of PyTorch's time for {model}: {which} computes it"


def compared(with_torch: Callable[[], object], with_onnx: Callable[[], object]) -> Timed:
    """The fastest of runs that take turns, after a cold one of each: whatever else the machine does can only add."""
    with_torch()
    with_onnx()
    pairs = [(_seconds(with_torch), _seconds(with_onnx)) for _ in range(_PAIRS)]
    torch_s, onnx_s = (min(column) for column in zip(*pairs, strict=True))
    return Timed(torch_s=torch_s, onnx_s=onnx_s)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
