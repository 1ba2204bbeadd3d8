"""What the back end does when memory runs out, or would, and what it says about half precision."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from pyserver.engine import half_precision
from pyserver.engine import memory as memory_module
from pyserver.engine.errors import EngineOutOfMemory, HalfPrecisionNotAvailable
from pyserver.engine.half_precision import signal_to_error_db
from pyserver.engine.messages import BackendChoice, SeparationSettings, WindowRequest, WindowResult
from pyserver.engine.torch_backend import TorchBackend
from pyserver.models import catalogue

MODEL = "stemline-small"

pytestmark = pytest.mark.usefixtures("tiny_models")


def window(position: int) -> WindowRequest:
    length = catalogue.find(MODEL).card.live_window_samples
    audio = np.random.default_rng(position).standard_normal((2, length)).astype(np.float32) * np.float32(0.1)
    return WindowRequest(MODEL, audio, 44100, position, (1000, length - 1000), SeparationSettings(1, 7))


def with_live_batch(size: int) -> TorchBackend:
    """As if batches of this size had been found to be faster."""
    backend = TorchBackend("cpu", 1)
    backend.load(MODEL, measure=False)
    loaded = backend._models[MODEL]
    backend._models[MODEL] = replace(loaded, info=replace(loaded.info, live_batch=size))
    return backend


def make_room_for(most: int, backend: TorchBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model runs out of memory for more windows at once."""
    model = backend._models[MODEL].pipeline.model
    separate: Callable[[torch.Tensor], object] = model.separate

    def cramped(mixture_BCL: torch.Tensor) -> object:
        if len(mixture_BCL) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return separate(mixture_BCL)

    monkeypatch.setattr(model, "separate", cramped)


def test_a_batch_that_does_not_fit_is_computed_in_halves_and_later_ones_are_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend, windows = with_live_batch(4), [window(position) for position in range(4)]
    alone = backend.separate(windows)
    make_room_for(2, backend, monkeypatch)
    together = backend.separate_together(windows)
    for found, expected in zip(together.outcomes, alone, strict=True):
        assert isinstance(found, WindowResult)
        np.testing.assert_allclose(found.stems_SCN, expected.stems_SCN, atol=1e-6)
    assert together.live_batch == 2
    assert backend.load(MODEL, measure=False).live_batch == 2


def test_windows_of_which_not_one_fits_are_errors_that_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = with_live_batch(4)
    make_room_for(0, backend, monkeypatch)
    together = backend.separate_together([window(0), window(1)])
    for position, found in enumerate(together.outcomes):
        assert isinstance(found, EngineOutOfMemory)
        assert f"window at sample {position}" in str(found)
    assert together.live_batch == 1


def test_a_model_whose_weights_do_not_fit_is_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, backend = psutil.virtual_memory(), TorchBackend("cpu", 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1_100_000_000))
    monkeypatch.setattr(catalogue.InstalledModel, "weight_paths", property(lambda _: pytest.fail("was read")))
    monkeypatch.setattr(catalogue.InstalledModel, "file_bytes", 3_200_000_000)
    with pytest.raises(
        EngineOutOfMemory, match=r"needs 3.2 GB for its weights and 1.1 GB are available \(cpu\)"
    ) as caught:
        backend.load(MODEL, measure=False)
    assert caught.value.metadata == {
        "needed_bytes": "3200000000",
        "available_bytes": "1100000000",
    }


def test_what_a_container_may_not_have_is_not_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def has(limit: str, used: int, cached: int) -> None:
        for name, text in (
            ("memory.max", f"{limit}\n"),
            ("memory.current", f"{used}\n"),
            ("memory.stat", f"anon {used - cached}\nfile {cached}\ninactive_file {cached}\n"),
        ):
            (tmp_path / name).write_text(text)

    monkeypatch.setattr(memory_module, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(catalogue.InstalledModel, "file_bytes", 300_000_000)
    backend = TorchBackend("cpu", 1)
    has("1000000000", 900_000_000, 100_000_000)
    with pytest.raises(EngineOutOfMemory, match=r"needs 0.3 GB for its weights and 0.2 GB are available"):
        backend.load(MODEL, measure=False)
    has("1000000000", 900_000_000, 200_000_001)
    assert backend.load(MODEL, measure=False).name == MODEL
    has("max", 900_000_000, 0)
    assert TorchBackend("cpu", 1).load(MODEL, measure=False).name == MODEL


def test_a_model_whose_weights_just_fit_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    installed, memory = catalogue.find(MODEL), psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=installed.file_bytes))
    assert TorchBackend("cpu", 1).load(MODEL, measure=False).name == MODEL


@pytest.mark.parametrize(("least_db", "name"), [(20.0, "torch-bf16-cpu"), (200.0, "torch-cpu")])
def test_half_precision_is_used_where_it_does_no_harm_and_the_back_end_s_name_says_so(
    least_db: float, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TorchBackend("cpu", 1).separate([window(0)])[0]
    monkeypatch.setattr(half_precision, "is_default", lambda _: True)
    monkeypatch.setattr(half_precision, "LEAST_DB", least_db)
    backend = TorchBackend("cpu", 1)
    assert backend.load(MODEL, measure=False).backend == backend.device.backend == name
    found = backend.separate([window(0)])[0]
    assert found.computed_by == name
    assert np.array_equal(found.stems_SCN, whole.stems_SCN) == (name == "torch-cpu")
    with backend._models[MODEL].in_full_precision():
        assert np.array_equal(backend.separate([window(0)])[0].stems_SCN, whole.stems_SCN)


def test_who_insists_gets_half_precision_and_keeps_no_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TorchBackend("cpu", 1).separate([window(0)])[0]
    monkeypatch.setattr(half_precision, "is_faster", lambda _: True)
    backend = TorchBackend("cpu", 1, choice=BackendChoice.TORCH_HALF)
    assert backend.load(MODEL, measure=False).backend == backend.device.backend == "torch-bf16-cpu"
    found = backend.separate([window(0)])[0]
    assert found.computed_by == "torch-bf16-cpu"
    assert half_precision.INSISTED_DB < signal_to_error_db(whole.stems_SCN, found.stems_SCN) < 100
    weights = backend._models[MODEL].pipeline.model.parameters()
    assert torch.bfloat16 in {parameter.dtype for parameter in weights}


def test_half_precision_that_ruins_stems_is_refused_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = TorchBackend("cpu", 1).separate([window(0)])[0]
    monkeypatch.setattr(half_precision, "is_faster", lambda _: True)
    monkeypatch.setattr(half_precision, "INSISTED_DB", 200.0)
    backend = TorchBackend("cpu", 1, choice=BackendChoice.TORCH_HALF)
    found = backend.separate([window(0)])[0]
    assert found.computed_by == "torch-cpu"
    assert np.array_equal(found.stems_SCN, whole.stems_SCN)
    assert "are computed in fp32; half precision lies" in caplog.text


def test_half_precision_is_refused_where_it_would_be_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "is_faster", lambda _: False)
    with pytest.raises(HalfPrecisionNotAvailable, match="AVX-512 BF16 or AMX; leave --backend out"):
        TorchBackend("cpu", 1, choice=BackendChoice.TORCH_HALF)


def test_a_cpu_computes_in_full_precision() -> None:
    assert TorchBackend("cpu", 1).load(MODEL, measure=False).backend == "torch-cpu"
