"""`doctor`: what works on this machine, shown by doing it, and for what does not, how to mend it."""

import asyncio
import importlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import tyro

import pyserver
from pyserver import paths
from pyserver.cli import console
from pyserver.cli.exits import Exit
from pyserver.errors import StemlineError

_LITTLE_SPACE_BYTES = 2 << 30
_OLDEST_PYTHON = (3, 11)


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"  # something that is not always needed
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `fix` says what to do, where something is to be done."""

    what: str
    state: State
    text: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class DoctorArgs:
    """What to report, and how."""

    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """For programs."""


def doctor(args: DoctorArgs) -> int:
    """Say what works on this machine and what does not. The exit code is 1 if anything that is needed is broken."""
    findings: list[Finding] = []
    for check in CHECKS:
        found = _findings(check)
        findings += found
        if not args.json:
            for finding in found:
                _print(finding)
    if args.json:
        console.stdout.print(json.dumps([asdict(finding) for finding in findings], indent=1))
    return Exit.UNEXPECTED if any(finding.state == State.BROKEN for finding in findings) else Exit.OK


def _print(finding: Finding) -> None:
    mark = {State.OK: "ok     ", State.WARNING: "warning", State.BROKEN: "BROKEN "}[finding.state]
    console.stdout.print(f"{mark}  {finding.what + ':':<14}{finding.text}")
    if finding.fix:
        console.stdout.print(f"{'':<9}{'':<14}→ {finding.fix}")


def _findings(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a check finds. One that fails itself is a finding too: nothing keeps the others from being made."""
    found: list[Finding] = []
    what = check.__name__.removeprefix("_")
    try:
        found.extend(check())
    except StemlineError as error:
        found.append(Finding(what, State.BROKEN, str(error)))
    except ImportError as error:
        found.append(Finding(what, State.BROKEN, f"{error}", "install Stemline again: pip install --force-reinstall ."))
    except Exception as error:
        found.append(Finding(what, State.BROKEN, f"{type(error).__name__}: {error}"))
    return found


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    text = f"{version} ({sys.executable}), Stemline {pyserver.__version__}, {platform.system()} {platform.machine()}"
    if sys.version_info < _OLDEST_PYTHON:
        yield Finding("python", State.BROKEN, text, "Stemline needs Python 3.11 or newer")
    else:
        yield Finding("python", State.OK, text)


def _packages() -> Iterator[Finding]:
    names = ("numpy", "soxr", "grpc", "google.protobuf", "safetensors", "psutil", "stems.v1.bounce_pb2")
    modules = [importlib.import_module(name) for name in names]
    versions = [f"{m.__name__} {m.__version__}" for m in modules if hasattr(m, "__version__")]
    yield Finding("packages", State.OK, ", ".join(versions))


def _sound_files() -> Iterator[Finding]:
    import numpy as np
    import soundfile

    from pyserver.audio.files import AudioFile, AudioWriter

    audio = np.linspace(-0.5, 0.5, 2000, dtype=np.float32).reshape(-1, 2)
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("wav", "flac"):
            path = Path(folder) / f"test.{kind}"
            with AudioWriter(path, 44100, 2, len(audio), kind) as writer:
                writer.write(audio)
            back = np.concatenate(list(AudioFile(path).blocks()))
            if np.abs(back - audio).max() > 2**-23:
                yield Finding("sound files", State.BROKEN, f"{kind} does not come back as it was written")
                return
    text = f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}; WAV and FLAC written and read"
    yield Finding("sound files", State.OK, text)


def _device() -> Iterator[Finding]:
    """The device that a server would use, found as the engine finds it."""
    import torch

    from pyserver.engine.torch_backend import TorchBackend

    backend = TorchBackend("auto", 0, paths.state_dir() / "measurements.json")
    device = backend.device
    text = f"{device.name}, back end {device.backend} (PyTorch {torch.__version__})"
    on_gpu = device.backend.endswith("cuda")
    memory = f", {console.size(device.free_bytes)} of {console.size(device.total_bytes)} free"
    yield Finding("device", State.OK, text + memory + ("" if on_gpu else f", {device.threads} threads"))
    if not on_gpu and shutil.which("nvidia-smi"):
        yield Finding(
            "gpu",
            State.WARNING,
            _why_no_gpu(torch.version.cuda),
            "install a PyTorch for CUDA: pip install torch --index-url https://download.pytorch.org/whl/cu126",
        )
    yield from _separates(backend)


def _why_no_gpu(cuda: str | None) -> str:
    if cuda is None:
        return "there is an NVIDIA driver, but this PyTorch is built for CPUs only"
    return f"there is an NVIDIA driver, but PyTorch for CUDA {cuda} cannot use it; it may be too old for this version"


def _separates(backend: object) -> Iterator[Finding]:
    """The proof: the default model, loaded by the engine's own back end, separates a window."""
    from pyserver.engine.torch_backend import TorchBackend
    from pyserver.models.catalogue import DEFAULT_MODEL

    assert isinstance(backend, TorchBackend)
    begin = time.monotonic()
    try:
        loaded = backend.load(DEFAULT_MODEL, measure=False)
    except StemlineError as error:
        fix = "install Stemline again, or name another model with --model"
        yield Finding("separation", State.BROKEN, str(error), fix)
        return
    took = time.monotonic() - begin
    text = f"{DEFAULT_MODEL} was loaded and separated a window in {took:.1f} s, by {loaded.backend}"
    yield Finding("separation", State.OK, text)


def _onnxruntime() -> Iterator[Finding]:
    """Only providers that a session really got are called usable: what the library lists is what it was built for."""
    from pyserver.engine import onnx_runtime

    if not onnx_runtime.is_installed():
        yield Finding("onnxruntime", State.OK, 'not installed; PyTorch does it all (pip install "stemline[cpu]")')
        return
    usable, missing = onnx_runtime.providers()
    text = f"{onnx_runtime.version()}, computes with: {', '.join(usable) or 'nothing'}"
    yield Finding("onnxruntime", State.OK if usable else State.BROKEN, text)
    for problem in missing:
        yield Finding("onnxruntime", State.WARNING, problem, "PyTorch does it all the same; see docs/backends.md")
    yield from _exports()


def _exports() -> Iterator[Finding]:
    """What is there for ONNX Runtime, and what computes the model by itself on the device that a server would use."""
    from pyserver.engine.backend_choice import described
    from pyserver.engine.devices import pick_device
    from pyserver.models import catalogue
    from pyserver.models.onnx_files import ExportMissing

    for entry in catalogue.list_models():
        if entry.installed is None:
            continue
        try:
            text = described(entry.installed, pick_device("auto"), paths.state_dir())
        except ExportMissing:
            continue
        except StemlineError as error:
            yield Finding("onnx export", State.WARNING, str(error))
        else:
            yield Finding("onnx export", State.OK, text)


def _models() -> Iterator[Finding]:
    from pyserver.models import catalogue

    for entry in catalogue.list_models():
        pull = f"python -m pyserver models pull {entry.name}"
        needed = State.BROKEN if entry.name == catalogue.DEFAULT_MODEL else State.WARNING
        if entry.installed is not None:
            try:
                catalogue.verify(entry.installed)
            except StemlineError as error:
                yield Finding("model", needed, str(error))
            else:
                size = console.size(entry.installed.file_bytes)
                yield Finding(
                    "model", State.OK, f"{entry.name}, {size}, checksum right, in {entry.installed.directory}"
                )
        elif entry.problem:
            yield Finding("model", needed, f"{entry.name}: {entry.problem}")
        else:
            yield Finding("model", State.OK, f"{entry.name} is not downloaded; if you want it: {pull}")
    if all(entry.name != catalogue.DEFAULT_MODEL for entry in catalogue.list_models()):
        text = f"the default model {catalogue.DEFAULT_MODEL} is missing"
        yield Finding("model", State.BROKEN, text, "install Stemline again: the model comes with the package")


def _sound_card() -> Iterator[Finding]:
    from pyserver.cli.sound_card import devices

    try:
        count = len(devices())
    except StemlineError as error:
        yield Finding("sound card", State.WARNING, str(error), "needed for `live` only")
        return
    if count:
        yield Finding("sound card", State.OK, f"{count} devices; `python -m pyserver live --list-devices` names them")
    else:
        yield Finding("sound card", State.WARNING, "no devices", "needed for `live` only")


def _directories() -> Iterator[Finding]:
    state, runtime = paths.state_dir(), paths.runtime_dir()
    for what, folder in (("state", state), ("runtime", runtime)):
        if not os.access(folder, os.W_OK):
            fix = "make it writable, or set STEMLINE_HOME to another directory"
            yield Finding(what, State.BROKEN, f"{folder} is not writable", fix)
            return
    free = shutil.disk_usage(state).free
    text = f"{console.size(free)} free for jobs in {state}"
    if free < _LITTLE_SPACE_BYTES:
        fix = "an hour of stereo needs about 9 GB while it is separated; free some space, or set STEMLINE_HOME"
        yield Finding("disk", State.WARNING, text, fix)
    else:
        yield Finding("disk", State.OK, text)


def _server() -> Iterator[Finding]:
    from pyserver.service.channel import connect, find_server

    target = find_server()
    if target is None:
        yield Finding("server", State.OK, "none is running; `bounce` and `live` start one when they need it")
        return

    async def ask() -> str:
        async with await connect(target) as connection:
            info = connection.info
            devices = ", ".join(f"{device.name} ({device.backend})" for device in info.devices) or "still loading"
            return f"version {info.version} at {target.address}, {devices}, model {info.default_model}"

    try:
        yield Finding("server", State.OK, asyncio.run(ask()))
    except StemlineError as error:
        yield Finding("server", State.BROKEN, str(error), "stop that process; the next command starts a new server")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _packages,
    _sound_files,
    _device,
    _onnxruntime,
    _models,
    _sound_card,
    _directories,
    _server,
)
