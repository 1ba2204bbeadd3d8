"""Cores on ONNX Runtime, in the place of PyTorch's. The only module of the engine that imports it, and only when asked.

ONNX Runtime computes on the CPU without a word where a provider cannot be had, so every session is asked what it really
got. What could make two runs of one request differ is turned off: kernels chosen by timing them, TensorFloat-32.
"""

import base64
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyserver.errors import StemlineError
from pyserver.models.cores import cores, put, put_together, shape_of, take_apart
from pyserver.models.interface import AnyModel
from pyserver.models.onnx_files import ExportStale, FoundExport, Graph


class OnnxRuntimeMissing(StemlineError):
    """The optional package is not here, and somebody insists on it."""

    reason = "PACKAGE_MISSING"

    def __init__(self) -> None:
        super().__init__(
            'ONNX Runtime is not installed: pip install "stemline[cpu]", or "stemline[cuda]" for an NVIDIA GPU; '
            "or leave --backend out",
            package="onnxruntime",
        )


class ProviderNotActive(StemlineError):
    """ONNX Runtime would compute elsewhere than it was told to."""

    reason = "PROVIDER_NOT_ACTIVE"

    def __init__(self, wanted: str, active: str) -> None:
        super().__init__(
            f"ONNX Runtime cannot use {wanted} here and fell back to {active or 'nothing'}; its log says why",
            wanted=wanted,
            active=active,
        )


class Provider(StrEnum):
    """By the name that a user reads; `ort_name` is the one that the library has for it."""

    CPU = "onnxruntime-cpu"
    CUDA = "onnxruntime-cuda"
    TENSORRT = "onnxruntime-tensorrt-cuda"

    @property
    def ort_name(self) -> str:
        names = {Provider.CPU: "CPU", Provider.CUDA: "CUDA", Provider.TENSORRT: "Tensorrt"}
        return f"{names[self]}ExecutionProvider"


@dataclass(frozen=True, slots=True)
class Place:
    """Where to compute. `threads` are those of a CPU."""

    provider: Provider
    device: torch.device
    threads: int


def is_installed() -> bool:
    try:
        import onnxruntime
    except ImportError:
        return False
    return hasattr(onnxruntime, "InferenceSession")  # an uninstalled one may leave an empty folder behind


def version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def provider_for(device: torch.device, *, tensorrt: bool = False) -> Provider:
    if device.type == "cpu":
        return Provider.CPU
    return Provider.TENSORRT if tensorrt else Provider.CUDA


_ABSOLUTE_VALUE = base64.b64decode("CAg6MgoLCgF4EgF5IgNBYnMSAWdaDwoBeBIKCggIARIECgIIAWIPCgF5EgoKCAgBEgQKAggBQgQKABAR")
"""The smallest graph that does something: y = |x|, one float32."""


def proven(place: Place) -> None:
    """A session is made and run. Raises OnnxRuntimeMissing or ProviderNotActive."""
    if not is_installed():
        raise OnnxRuntimeMissing
    session = _session(_ABSOLUTE_VALUE, place, cache=None)
    found = torch.zeros(1, device=place.device)
    _run(session, [torch.full((1,), -2.0, device=place.device)], [found])
    if found.item() != 2.0:
        raise ProviderNotActive(place.provider, "wrong results")


def providers() -> tuple[list[str], list[str]]:
    """What a session can be had with, by our names, and for what is built in and cannot be had, why."""
    import onnxruntime

    usable, problems = [], []
    for provider in Provider:
        if provider.ort_name not in onnxruntime.get_available_providers():
            continue
        device = torch.device("cpu" if provider is Provider.CPU or not torch.cuda.is_available() else "cuda:0")
        try:
            proven(Place(provider, device, 1))
        except StemlineError as error:
            if provider is not Provider.TENSORRT:  # which comes with every build for GPUs, and without its libraries
                problems.append(str(error))
        else:
            usable.append(str(provider))
    return usable, problems


def put_cores(model: AnyModel, architecture: str, name: str, found: FoundExport, place: Place) -> None:
    """ONNX Runtime in the place of every core of the model, whose own weights are let go.

    Raises ExportStale and what `proven` raises.
    """
    proven(place)
    found.verify(name)
    wanted = {core.path: core for core in cores(model, architecture)}
    graphs = {graph.core: graph for graph in found.export.graphs}
    if wanted.keys() != graphs.keys():
        raise ExportStale(name, "it has other cores than the model")
    for path, core in wanted.items():
        put(model, core, OnnxCore(graphs[path], found.path(graphs[path]), place))


class OnnxCore(nn.Module):
    """A graph as a module, for tensors on the device of its place. Called from several threads."""

    def __init__(self, graph: Graph, path: Path, place: Place) -> None:
        super().__init__()
        self._graph, self._path, self._place = graph, path, place
        self._priority = _priority()
        self._sessions: dict[bool, Any] = {}
        self._lock = threading.Lock()

    def forward(self, *positional: Any, **named: Any) -> Any:
        given: list[Tensor] = []
        take_apart((positional, named), given)
        assert len(given) == self._graph.inputs, f"{self._graph.core} takes {self._graph.inputs} tensors"
        made = [torch.empty(shape_of(rule, given), device=self._place.device) for rule in self._graph.shapes]
        _run(self._ready_session(), given, made)
        return put_together(self._graph.outputs, iter(made))

    def _ready_session(self) -> Any:
        """The compute threads of a session inherit the priority of the thread that makes it: so that live windows go
        first, threads of a lower priority than at loading have a session of their own."""
        lowered = _priority() > self._priority
        with self._lock:
            if lowered not in self._sessions:
                self._sessions[lowered] = _session(self._path, self._place, cache=self._path.parent)
            return self._sessions[lowered]


def _run(session: Any, given: Sequence[Tensor], made: Sequence[Tensor]) -> None:
    """Bound to the tensors' own memory: nothing is copied, on a CPU or on a GPU."""
    import numpy as np

    binding = session.io_binding()
    kept = [tensor.contiguous() for tensor in given]  # until the run is over
    for entry in session.get_inputs():
        tensor = kept[_number(entry.name)]
        device, index = tensor.device.type, tensor.device.index or 0
        binding.bind_input(entry.name, device, index, np.float32, tuple(tensor.shape), tensor.data_ptr())
    for entry in session.get_outputs():
        tensor = made[_number(entry.name)]
        device, index = tensor.device.type, tensor.device.index or 0
        binding.bind_output(entry.name, device, index, np.float32, tuple(tensor.shape), tensor.data_ptr())
    if made[0].device.type == "cuda":  # each has a stream of its own
        torch.cuda.current_stream(made[0].device).synchronize()
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()


def _number(name: str) -> int:
    """Of "in3" or "out0"; the smallest graph has one of each."""
    digits = name.lstrip("inoutxy")
    return int(digits) if digits else 0


def _session(graph: Path | bytes, place: Place, cache: Path | None) -> Any:
    """Raises ProviderNotActive."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = place.threads, 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    # Threads that wait by spinning would take the cores from PyTorch's own, and from the host.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = place.provider.ort_name
    if wanted not in onnxruntime.get_available_providers():
        raise ProviderNotActive(wanted, ", ".join(onnxruntime.get_available_providers()))
    session = onnxruntime.InferenceSession(graph, options, providers=_providers(place, cache))
    active = session.get_providers()
    if not active or active[0] != wanted:
        raise ProviderNotActive(wanted, ", ".join(active))
    return session


def _providers(place: Place, cache: Path | None) -> list[str | tuple[str, dict[str, str]]]:
    index = str(place.device.index or 0)
    cuda = (Provider.CUDA.ort_name, {"device_id": index, "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
    match place.provider:
        case Provider.CPU:
            return [Provider.CPU.ort_name]
        case Provider.CUDA:
            return [cuda, Provider.CPU.ort_name]
        case Provider.TENSORRT:
            kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)} if cache else {}
            return [(Provider.TENSORRT.ort_name, {"device_id": index, **kept}), cuda, Provider.CPU.ort_name]


def _priority() -> int:
    """Of this thread; the higher the number, the less it gets. Elsewhere than on Linux all are alike."""
    if sys.platform != "linux":
        return 0
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
