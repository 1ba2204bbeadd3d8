"""Cores as ONNX graphs, by torch's dynamo exporter, each compared with PyTorch before anything is kept.

Batch and frames stay free, so that one graph serves live windows, bounce windows and every rate of a client.
"""

import contextlib
import io
import logging
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pyserver
from pyserver.errors import StemlineError
from pyserver.models import catalogue
from pyserver.models.card import ModelCard
from pyserver.models.cores import Flat, NoCores, Recorded, has_cores, record
from pyserver.models.interface import AnyModel
from pyserver.models.onnx_files import MANIFEST, Export, FoundExport, Graph, source_of

_WEIGHTS_BYTES = 1 << 14
PARITY = 1e-4
"""How far a graph may be from PyTorch, of the largest value where that is above one."""


class ExporterMissing(StemlineError):
    reason = "PACKAGE_MISSING"

    def __init__(self, package: str) -> None:
        super().__init__(
            f'exporting needs the package {package}, which is not installed: pip install "stemline[onnx]"',
            package=package,
        )


class ExportFailed(StemlineError):
    """The exporter gave up, or made something else than the network."""

    reason = "ONNX_EXPORT_FAILED"


def export_cores(network: AnyModel, card: ModelCard, home: Path, told: Callable[[str], None]) -> FoundExport:
    """Into a folder of its own below `home`, which counts once the manifest is replaced; `told` hears of every core.

    Raises NoCores, ExporterMissing, ExportFailed.
    """
    if not has_cores(card.architecture):
        raise NoCores(card.name, card.architecture)
    _require_packages()
    token = secrets.token_hex(6)
    folder = home / token
    folder.mkdir(parents=True)
    try:
        graphs = []
        for recorded in record(network, card.architecture, card.channels):
            told(recorded.core.path)
            graphs.append(_export(network, recorded, folder))
        exporter = f"torch {torch.__version__}, Stemline {pyserver.__version__}"
        export = Export(token=token, source=source_of(card), exporter=exporter, graphs=tuple(graphs))
        _sync_folder(folder)
        before = _replace_manifest(home / MANIFEST, export)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    for old in home.iterdir():  # a server that runs may still open what was there before this one
        if old.is_dir() and old.name not in (token, before):
            shutil.rmtree(old, ignore_errors=True)
    return FoundExport(export, folder)


def _require_packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise ExporterMissing(package) from error


def _export(network: AnyModel, recorded: Recorded, folder: Path) -> Graph:
    core = recorded.core
    file = f"{core.path}.onnx"
    given = recorded.given[0]
    if any(tensor.dtype != torch.float32 for tensor in (*given, *recorded.made[0])):
        raise ExportFailed(f"{core.path} takes or gives something else than float32", core=core.path)
    free = tuple(dict.fromkeys(axes, torch.export.Dim.AUTO) for axes in recorded.free_axes)
    flat = Flat(network, core, recorded.arguments).eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                flat,
                given,
                dynamo=True,
                dynamic_shapes={"tensors": free},
                input_names=[f"in{index}" for index in range(len(given))],
                output_names=[f"out{index}" for index in range(len(recorded.made[0]))],
                verbose=False,
            )
            assert program is not None
            _save(program.model, folder / file)
    except Exception as error:  # torch's, onnxscript's and sympy's of many kinds
        raise ExportFailed(f"the exporter cannot do {core.path}: {error}", core=core.path) from error
    names = sorted(path.name for path in folder.glob(f"{file}*"))
    for name in names:
        _sync(folder / name)
    _require_parity(recorded, folder / file)
    return Graph(
        core=core.path,
        file=file,
        inputs=len(given),
        outputs=recorded.outputs,
        shapes=recorded.output_shapes(),
        sha256={name: catalogue.sha256_of(folder / name) for name in names},
    )


def _save(graph: Any, path: Path) -> None:
    """The weights go into a file beside the graph, for which it would be too large, but not the numbers that shapes
    follow from, such as the widths of many bands: ONNX Runtime looks for those in the graph alone."""
    import onnx_ir

    onnx_ir.save(graph, path, external_data=f"{path.name}.data", size_threshold_bytes=_WEIGHTS_BYTES)


def _require_parity(recorded: Recorded, path: Path) -> None:
    """On what the graph was traced with, and on a batch and a length that it has not seen."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    where = recorded.core.path
    for given, made in zip(recorded.given, recorded.made, strict=True):
        feed = {entry.name: given[int(entry.name.removeprefix("in"))].numpy() for entry in session.get_inputs()}
        try:
            found = session.run(None, feed)
        except Exception as error:  # onnxruntime has an exception for each of its states
            raise ExportFailed(f"the graph of {where} does not run: {error}", core=where) from error
        for ours, theirs in zip(made, found, strict=True):
            allowed = PARITY * max(1.0, float(ours.abs().max()))
            error_of_it = float(np.abs(ours.numpy() - theirs).max()) if ours.shape == theirs.shape else np.inf
            if not error_of_it <= allowed:
                raise ExportFailed(f"the graph of {where} is {error_of_it:.2g} away from PyTorch", core=where)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter has much to say that is of no use to anybody here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _replace_manifest(path: Path, export: Export) -> str:
    """Written beside, flushed and renamed. Returns the token of the export that was there before, if any."""
    try:
        before = Export.from_json(path.read_text(encoding="utf-8")).token
    except (OSError, ValueError, TypeError, KeyError):
        before = ""
    partial = path.with_name(f"{path.name}.{export.token}")
    partial.write_text(export.to_json(), encoding="utf-8")
    _sync(partial)
    partial.replace(path)
    _sync_folder(path.parent)
    return before


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
