"""A model's cores as ONNX graphs on disk: where they lie, and whether they are those of the model at hand.

    onnx/export.json       what there is; written last, so that what it names is whole
    onnx/<token>/*.onnx    a graph for each core, each with its weights in a .data file beside it

A folder `onnx` lies in the model's own, or, where that belongs to the package or is read-only, in the user's. Needs no
torch and no ONNX.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyserver
from pyserver.errors import StemlineError
from pyserver.models import catalogue
from pyserver.models.card import ModelCard
from pyserver.models.catalogue import InstalledModel

MANIFEST = "export.json"
_FOLDER = "onnx"


class ExportMissing(StemlineError):
    """Where ONNX Runtime is insisted on and there is nothing for it."""

    reason = "ONNX_EXPORT_MISSING"

    def __init__(self, model: str) -> None:
        command = export_command(model)
        super().__init__(f"model {model} has no ONNX export; make it with: {command}", model=model, command=command)


class ExportStale(StemlineError):
    """An export of other weights, of another configuration, by another version, or one that is damaged."""

    reason = "ONNX_EXPORT_STALE"

    def __init__(self, model: str, why: str) -> None:
        command = export_command(model)
        super().__init__(
            f"the ONNX export of model {model} cannot be used: {why}; make it again with: {command}",
            model=model,
            command=command,
        )


def export_command(model: str) -> str:
    return f"python -m pyserver models export-onnx {model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One core. `outputs` is how its tensors hang together (pyserver.models.cores.Structure); `shapes` has of every
    output each axis, a length or what it follows from."""

    core: str
    file: str
    inputs: int
    outputs: Any
    shapes: list[list[int | list[int]]]
    sha256: Mapping[str, str]  # of the graph's file and of that with its weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """All cores of one model. `token` is new with every export."""

    token: str
    source: str  # what `source_of` says of the model that was exported
    exporter: str
    graphs: tuple[Graph, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Export":
        """Raises ValueError, TypeError or KeyError for what is none."""
        raw = json.loads(text)
        return cls(**{**raw, "graphs": tuple(Graph(**graph) for graph in raw["graphs"])})


@dataclass(frozen=True, slots=True)
class FoundExport:
    """An export with the folder that its graphs are in."""

    export: Export
    folder: Path

    def path(self, graph: Graph) -> Path:
        return self.folder / graph.file

    def verify(self, model: str) -> None:
        """Reads every file. Raises ExportStale."""
        for graph in self.export.graphs:
            for name, expected in graph.sha256.items():
                try:
                    actual = catalogue.sha256_of(self.folder / name)
                except OSError as error:
                    raise ExportStale(model, f"{name} cannot be read ({error.strerror})") from error
                if actual != expected:
                    raise ExportStale(model, f"{name} is damaged")


def source_of(card: ModelCard) -> str:
    """All that the graphs of a model depend on: its weights, its network and the code of that."""
    network = [card.weights_sha256, card.architecture, dict(card.config), card.stems, card.channels]
    return hashlib.sha256(json.dumps([pyserver.__version__, network], sort_keys=True).encode()).hexdigest()


def home_of(model: InstalledModel) -> Path:
    """Where a new export goes."""
    if model.directory.is_relative_to(catalogue.PACKAGED) or not os.access(model.directory, os.W_OK):
        return _users(model)
    return model.directory / _FOLDER


def find_export(model: InstalledModel) -> FoundExport:
    """The newest export of this very model, its files not yet verified. Raises ExportMissing or ExportStale."""
    name, stale = model.card.name, None
    for home in (model.directory / _FOLDER, _users(model)):
        try:
            export = Export.from_json((home / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, KeyError) as error:
            stale = ExportStale(name, f"{home / MANIFEST} is no list of graphs ({error})")
            continue
        if export.source == source_of(model.card):
            return FoundExport(export, home / export.token)
        stale = ExportStale(name, "it was made of other weights, or by another version of Stemline")
    raise stale or ExportMissing(name)


def _users(model: InstalledModel) -> Path:
    return catalogue.user_models_dir().parent / _FOLDER / model.card.name
