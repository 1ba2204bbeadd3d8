"""The back end, on a CPU or one CUDA device: PyTorch, with ONNX Runtime in the place of core networks where chosen."""

import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from pyserver.engine import cuda_graphs, half_precision, onnx_runtime
from pyserver.engine.backend import DeviceLost
from pyserver.engine.backend_choice import CHOICES_FILE, Choices, chosen_export
from pyserver.engine.cuda_graphs import GraphedCores
from pyserver.engine.devices import compute_repeatably, device_name, other_devices, pick_device, usable_cores
from pyserver.engine.errors import EngineOutOfMemory, HalfPrecisionNotAvailable, ModelOutputNotFinite
from pyserver.engine.half_precision import NAMES, HalfPrecision
from pyserver.engine.measurements import Measurements
from pyserver.engine.memory import free_and_total, is_out_of_memory, require_room
from pyserver.engine.messages import (
    Audio,
    BackendChoice,
    BatchResult,
    DeviceInfo,
    LoadedModel,
    WalkRequest,
    WalkResult,
    WindowRequest,
    WindowResult,
)
from pyserver.engine.onnx_runtime import Place
from pyserver.engine.pipeline import Pipeline
from pyserver.engine.timing import first_step, measured, probe, unmeasured
from pyserver.engine.weights import read_network
from pyserver.errors import StemlineError
from pyserver.models import catalogue
from pyserver.models.cores import has_cores
from pyserver.models.interface import AnyModel

log = logging.getLogger(__name__)

R = TypeVar("R")

_WARM_STEPS = 2  # more would run the same code again


@dataclass(frozen=True, slots=True)
class _Loaded:
    pipeline: Pipeline
    info: LoadedModel
    computed_by: str  # as in WindowResult
    card_path: Path
    card_changed_ns: int
    half: HalfPrecision | None = None
    graphs: GraphedCores | None = None

    @contextlib.contextmanager
    def in_full_precision(self) -> Iterator[None]:
        with contextlib.ExitStack() as switched_off:
            for switch in (self.half, self.graphs):
                if switch:
                    switched_off.enter_context(switch.off())
            yield

    @property
    def info_now(self) -> LoadedModel:
        """With what has been learnt since the model was measured."""
        most = self.pipeline.batches.most(self.pipeline.card.live_window_samples, self.info.live_batch)
        return replace(self.info, live_batch=most)

    @property
    def is_current(self) -> bool:
        """False once the model has been imported again: its card is always written anew."""
        return _changed_ns(self.card_path) in (self.card_changed_ns, 0)


class TorchBackend:
    """Models of the catalogue on one device, loaded when first asked for and kept until they are unloaded."""

    def __init__(
        self,
        device: str,
        threads: int,
        measurements: Path | None = None,
        choice: BackendChoice = BackendChoice.AUTO,
    ) -> None:
        """`threads` 0: one for each physical core this process may use. `measurements` is where to keep what models
        cost. Raises GpuNotAvailable, and for a choice that cannot be had OnnxRuntimeMissing, ProviderNotActive or
        HalfPrecisionNotAvailable."""
        self._torch_device = pick_device(device)
        self._threads = threads or usable_cores()
        torch.set_num_threads(self._threads)
        compute_repeatably(self._torch_device)
        provider = onnx_runtime.provider_for(self._torch_device, tensorrt=choice is BackendChoice.TENSORRT)
        self._choice, self._place = choice, Place(provider, self._torch_device, self._threads)
        if choice in (BackendChoice.ONNX, BackendChoice.TENSORRT):
            onnx_runtime.proven(self._place)
        if choice is BackendChoice.TORCH_HALF and not half_precision.is_faster(self._torch_device):
            raise HalfPrecisionNotAvailable(device_name(self._torch_device))
        self._first_backend = ""
        self._measurements = measurements
        self._models: dict[str, _Loaded] = {}
        self._lock = threading.Lock()  # loading only; windows of two lanes run at the same time

    @property
    def device(self) -> DeviceInfo:
        device = self._torch_device
        free, total = free_and_total(device)
        return DeviceInfo(
            index=device.index or 0,
            name=device_name(device),
            backend=self._first_backend or f"torch-{device.type}",
            total_bytes=total,
            free_bytes=free,
            threads=self._threads,
            live_preempts=device.type == "cpu" and sys.platform == "linux",
            others=other_devices(device),
        )

    def load(self, model: str, *, measure: bool) -> LoadedModel:
        """Raises what the catalogue raises, UnknownArchitecture, ModelNotLoadable, EngineOutOfMemory, and where ONNX
        Runtime is insisted on NoCores, ExportMissing, ExportStale."""
        with self._lock, _translated_errors(f"loading model {model}"):
            known = self._models.get(model)
            if known is None or not known.is_current:
                known = self._read(catalogue.find(model))
            if measure and not known.info.measured and "separate" in known.pipeline.card.abilities:
                known = replace(known, info=self._measured(known))
            self._models[model] = known
            self._first_backend = self._first_backend or known.info.backend
            return known.info_now

    def _measured(self, loaded: _Loaded) -> LoadedModel:
        card, backend = loaded.pipeline.card, loaded.info.backend
        measurements = Measurements(self._measurements, replace(self.device, backend=backend))
        known = measurements.find(card)
        if known is None:
            known = measured(loaded.pipeline, card)
            measurements.keep(card, known)
        return replace(known, backend=backend)

    def _read(self, installed: catalogue.InstalledModel) -> _Loaded:
        """Verified, loaded and warm."""
        card_path = installed.directory / catalogue.CARD_FILE
        changed_ns = _changed_ns(card_path)
        require_room(installed, self._torch_device)
        catalogue.verify(installed)
        card = installed.card
        network = read_network(installed, self._torch_device)
        backend, computed_by = self._put_cores(network, installed)
        pipeline = Pipeline(network, card, self._torch_device)
        if "separate" in card.abilities:
            pipeline.run(probe(card, card.live_window_samples, min(card.default_steps, _WARM_STEPS)))
        else:
            pipeline.walk(first_step(card))
        half, graphs = None, None
        if backend == f"torch-{self._torch_device.type}" and has_cores(card.architecture):
            half = self._half_precision(pipeline)
            graphs = self._graphs(pipeline)
        if half and half.dtype:
            backend = computed_by = f"torch-{NAMES[half.dtype]}-{self._torch_device.type}"
        info = replace(unmeasured(card), backend=backend)
        return _Loaded(pipeline, info, computed_by, card_path, changed_ns, half, graphs)

    def _half_precision(self, pipeline: Pipeline) -> HalfPrecision | None:
        """Switched on where it does no harm, or where somebody insists; None where there is nothing to switch."""
        card, insisted = pipeline.card, self._choice is BackendChoice.TORCH_HALF
        if not insisted and not half_precision.is_default(self._torch_device):
            return None
        half = HalfPrecision(pipeline.model, card.architecture, self._torch_device)
        window = probe(card, card.live_window_samples, min(card.default_steps, _WARM_STEPS))
        least_db = half_precision.INSISTED_DB if insisted else half_precision.LEAST_DB
        dtype = half.choose(lambda: pipeline.run(window).stems_SCN, least_db)
        log.log(
            logging.WARNING if insisted and dtype is None else logging.INFO,
            "the networks of model %s are computed in %s; half precision lies %.1f dB from float32",
            *(card.name, NAMES[dtype] if dtype else "fp32", half.found_db),
        )
        if dtype and insisted and self._torch_device.type == "cpu":
            half.keep()  # a processor's bf16 has float32's range: there is nothing to go back for
        return half

    def _graphs(self, pipeline: Pipeline) -> GraphedCores | None:
        """Of live windows alone: of a bounce's, launching is a small part, and graphs of it would keep gigabytes."""
        card, capture = pipeline.card, cuda_graphs.capture_on(self._torch_device)
        if capture is None:
            return None
        graphs = GraphedCores(pipeline.model, card.architecture, capture)
        with graphs.capturing():
            for channels in sorted({card.channels, 2}):  # of a mono model, stereo makes a batch
                pipeline.run(probe(card, card.live_window_samples, min(card.default_steps, _WARM_STEPS), channels))
        log.info("%d CUDA graphs were captured for live windows of model %s", len(graphs), card.name)
        return graphs

    def _put_cores(self, network: AnyModel, installed: catalogue.InstalledModel) -> tuple[str, str]:
        """ONNX Runtime's where it was chosen. Returns the back end's name, and that with the export's."""
        with_torch = f"torch-{self._torch_device.type}"
        path = self._measurements.with_name(CHOICES_FILE) if self._measurements else None
        found = chosen_export(installed, self._choice, self._place, Choices(path))
        if found is None:
            return with_torch, with_torch
        card = installed.card
        try:
            onnx_runtime.put_cores(network, card.architecture, card.name, found, self._place)
        except StemlineError as error:
            if self._choice is not BackendChoice.AUTO:
                raise
            log.warning("PyTorch computes %s: %s", card.name, error)
            return with_torch, with_torch
        return self._place.provider, f"{self._place.provider}/{found.export.token}"

    def unload(self, model: str) -> None:
        with self._lock:
            self._models.pop(model, None)
            gc.collect()  # what surrounds a core refers to it, and it to that
            if self._torch_device.type == "cuda":
                torch.cuda.empty_cache()

    def separate(self, requests: Sequence[WindowRequest]) -> list[WindowResult]:
        """One window after the other, so that a result never depends on its neighbours."""
        return [self._separate(request) for request in requests]

    def separate_together(self, requests: Sequence[WindowRequest]) -> BatchResult:
        """As one batch. Where that fails, and where a window of it is not finite, windows are computed alone."""
        loaded = self._loaded(requests[0].model)
        results = self._as_one_batch(loaded, requests)
        outcomes = (
            self._alone(request) if result is None else result
            for request, result in zip(requests, results, strict=True)
        )
        return BatchResult(tuple(outcomes), loaded.info_now.live_batch)

    def walk(self, request: WalkRequest) -> WalkResult:
        """As `separate`, of one segment of a walk. Raises ModelCannot."""
        loaded = self._loaded(request.model)
        where = f"steps {request.first} to {request.stop} at sample {request.position} with model {request.model}"
        return self._finite(loaded, lambda: loaded.pipeline.walk(request), lambda result: result.x_SP, where, request)

    def _separate(self, request: WindowRequest) -> WindowResult:
        loaded = self._loaded(request.model)
        where = f"window at sample {request.position} with model {request.model}"
        result = self._finite(
            loaded, lambda: loaded.pipeline.run(request), lambda found: found.stems_SCN, where, request
        )
        return replace(result, computed_by=loaded.computed_by)

    def _as_one_batch(self, loaded: _Loaded, requests: Sequence[WindowRequest]) -> list[WindowResult | None]:
        """None for a window without a result that can be used."""
        try:
            with _translated_errors(f"{len(requests)} live windows with model {requests[0].model}"):
                results = loaded.pipeline.run_together(requests)
        except DeviceLost:
            raise
        except Exception as error:
            log.warning("%d live windows failed together and are computed one by one: %s", len(requests), error)
            return [None] * len(requests)
        return [
            replace(result, computed_by=loaded.computed_by) if np.isfinite(result.stems_SCN).all() else None
            for result in results
        ]

    def _alone(self, request: WindowRequest) -> WindowResult | Exception:
        try:
            return self._separate(request)
        except DeviceLost:
            raise
        except Exception as error:
            return error

    def _finite(
        self,
        loaded: _Loaded,
        compute: Callable[[], R],
        audio: Callable[[R], Audio],
        where: str,
        request: WindowRequest | WalkRequest,
    ) -> R:
        """Computed once more in full precision if need be. Raises ModelOutputNotFinite."""
        with _translated_errors(where):
            result = compute()
            if not np.isfinite(audio(result)).all() and self._torch_device.type == "cuda":
                # Half precision and TensorFloat-32, cuDNN's default for convolutions, can fail where float32 does not.
                with loaded.in_full_precision(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                    result = compute()
        if not np.isfinite(audio(result)).all():
            raise ModelOutputNotFinite(
                f"the model gave samples that are no numbers: {where}", model=request.model, position=request.position
            )
        return result

    def _loaded(self, model: str) -> _Loaded:
        while (known := self._models.get(model)) is None or not known.is_current:
            self.load(model, measure=False)
        return known


def _changed_ns(path: Path) -> int:
    """When a file was last written; 0 if it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class _translated_errors:  # noqa: N801 - a context manager, used like a function
    """Torch's errors as ours: memory has run out, or the device is lost and only a new process will do."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if is_out_of_memory(error):
            raise EngineOutOfMemory(
                f"not enough memory for {self._doing}; close other programs or choose a smaller model"
            ) from error
        if isinstance(error, torch.AcceleratorError) or "CUDA failure" in str(error):  # ONNX Runtime's words
            raise DeviceLost(str(error)) from error
