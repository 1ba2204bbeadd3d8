"""Graphs around the cores, on a CPU: every operation is recorded with its tensors and done again on the same memory, as
CUDA does it with kernels."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx_parts import MODELS, install, window
from torch.utils._python_dispatch import TorchDispatchMode

from pyserver.engine import cuda_graphs, half_precision
from pyserver.engine.cuda_graphs import GraphedCores
from pyserver.engine.half_precision import HalfPrecision
from pyserver.engine.messages import Audio
from pyserver.engine.pipeline import Pipeline
from pyserver.engine.torch_backend import TorchBackend
from pyserver.engine.weights import read_network
from pyserver.models import catalogue

CPU = torch.device("cpu")
SHORT, LONG = 16384, 24576


class Recorded(TorchDispatchMode):
    """Notes operations, and `replay` does them again: into the memory that they wrote the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], list[torch.Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, tensors_of(made)))
        return made

    def replay(self) -> None:
        for func, args, kwargs, into in self.done:
            for new, own in zip(tensors_of(func(*args, **kwargs)), into, strict=True):
                if new.data_ptr() != own.data_ptr():  # neither a view nor written in place
                    own.copy_(new)


def tensors_of(made: Any) -> list[torch.Tensor]:
    return [tensor for tensor in torch.utils._pytree.tree_leaves(made) if isinstance(tensor, torch.Tensor)]


def record(compute: Callable[[], None]) -> Callable[[], None]:
    with Recorded() as recorded:
        compute()
    return recorded.replay


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    install(tmp_path, tiny_model_dir)
    monkeypatch.setenv("STEMLINE_MODELS", str(tmp_path))
    return str(request.param)


def pipeline_of(name: str) -> Pipeline:
    model = catalogue.find(name)
    return Pipeline(read_network(model), model.card, CPU)


def separated(pipeline: Pipeline, samples: int, seed: int = 0) -> Audio:
    card = pipeline.card
    asked = window(card.name, samples, channels=card.channels, rate=card.sample_rate_hz, seed=seed)
    return pipeline.run(asked).stems_SCN


def test_replayed_windows_have_the_same_bits_as_computed_ones(name: str) -> None:
    pipeline = pipeline_of(name)
    graphs = GraphedCores(pipeline.model, pipeline.card.architecture, record)
    with graphs.capturing():
        separated(pipeline, SHORT)
    captured = len(graphs)
    assert captured > 1
    for samples, seed in ((SHORT, 1), (LONG, 2), (SHORT, 3)):
        found = separated(pipeline, samples, seed)
        with graphs.off():
            assert np.array_equal(separated(pipeline, samples, seed), found)
    assert len(graphs) == captured


def test_known_shapes_alone_are_replayed_and_nothing_while_they_are_off(name: str) -> None:
    pipeline, replays = pipeline_of(name), 0

    def counted(compute: Callable[[], None]) -> Callable[[], None]:
        again = record(compute)

        def replay() -> None:
            nonlocal replays
            replays += 1
            again()

        return replay

    graphs = GraphedCores(pipeline.model, pipeline.card.architecture, counted)
    with graphs.capturing():
        separated(pipeline, SHORT)
    before = replays
    assert before >= len(graphs) > 1  # each once, to see what it gives
    separated(pipeline, LONG)
    with graphs.off():
        separated(pipeline, SHORT)
    assert replays == before
    separated(pipeline, SHORT)
    assert replays >= before + len(graphs)


def test_half_precision_is_part_of_what_is_captured(name: str) -> None:
    pipeline = pipeline_of(name)
    half = HalfPrecision(pipeline.model, pipeline.card.architecture, CPU)
    whole = separated(pipeline, SHORT)
    half.dtype = torch.bfloat16
    graphs = GraphedCores(pipeline.model, pipeline.card.architecture, record)
    with graphs.capturing():
        halved = separated(pipeline, SHORT)
    assert len(graphs) > 1
    assert np.array_equal(separated(pipeline, SHORT), halved)
    assert not np.array_equal(halved, whole)
    with half.off(), graphs.off():
        assert np.array_equal(separated(pipeline, SHORT), whole)


def test_what_gives_other_bits_or_cannot_be_captured_is_computed_as_before(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(_: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    def wrong(compute: Callable[[], None]) -> Callable[[], None]:
        with Recorded() as recorded:
            compute()

        def replay() -> None:
            recorded.replay()
            for tensor in recorded.done[-1][-1]:
                tensor.add_(1)

        return replay

    for capture, said in ((refuses, "cannot be captured"), (wrong, "gives other bits")):
        pipeline = pipeline_of(name)
        graphs = GraphedCores(pipeline.model, pipeline.card.architecture, capture)
        caplog.clear()
        with graphs.capturing():
            separated(pipeline, SHORT)
        assert len(graphs) == 0
        assert said in caplog.text
        found = separated(pipeline, SHORT, 1)
        with graphs.off():
            assert np.array_equal(separated(pipeline, SHORT, 1), found)


def test_two_threads_do_not_mix_their_windows(name: str) -> None:
    graphed = pipeline_of(name)
    graphs = GraphedCores(graphed.model, graphed.card.architecture, record)
    with graphs.off():
        expected = [separated(graphed, SHORT, seed) for seed in range(2)]
    with graphs.capturing():
        separated(graphed, SHORT)
    found: dict[int, bool] = {}

    def often(seed: int) -> None:
        found[seed] = all(np.array_equal(separated(graphed, SHORT, seed), expected[seed]) for _ in range(5))

    threads = [threading.Thread(target=often, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: True, 1: True}


def test_the_back_end_captures_live_windows_where_there_are_graphs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    card = catalogue.find(name).card
    asked = window(name, card.live_window_samples, channels=2, rate=card.sample_rate_hz)
    monkeypatch.setattr(cuda_graphs, "capture_on", lambda _: record)
    backend = TorchBackend("cpu", 1)
    backend.load(name, measure=False)
    loaded = backend._models[name]
    assert loaded.graphs
    captured = len(loaded.graphs)
    assert captured > 1
    found = backend.separate([asked])[0]
    assert found.computed_by == "torch-cpu"
    with loaded.in_full_precision():
        expected = backend.separate([asked])[0]
    assert np.array_equal(found.stems_SCN, expected.stems_SCN)
    monkeypatch.setattr(half_precision, "LEAST_DB", -200.0)
    monkeypatch.setattr(half_precision, "is_default", lambda _: True)
    in_half = TorchBackend("cpu", 1)
    in_half.load(name, measure=False)
    halved = in_half.separate([asked])[0].stems_SCN
    assert not np.array_equal(halved, expected.stems_SCN)
    with in_half._models[name].in_full_precision():
        assert np.array_equal(in_half.separate([asked])[0].stems_SCN, expected.stems_SCN)


def test_a_cpu_has_no_graphs() -> None:
    assert cuda_graphs.capture_on(CPU) is None
