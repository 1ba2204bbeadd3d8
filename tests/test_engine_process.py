"""The engine process with a real (tiny) model: it computes, it dies and comes back, it says what is wrong."""

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from pyserver.engine.devices import other_devices
from pyserver.engine.errors import EngineClosed, EngineCrashed, GpuNotAvailable, ModelOutputNotFinite
from pyserver.engine.messages import LoadedModel, SeparationSettings, WindowRequest, WindowResult
from pyserver.engine.process import EngineConfig, EngineProcess
from pyserver.models import catalogue
from pyserver.models.card import ModelCard
from pyserver.models.catalogue import ChecksumMismatch, ModelNotFound

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("tiny_models")]

CPU = EngineConfig(device="cpu", threads=1)


def window(position: int = 0, seconds: float = 0.5, model: str = "stemline-small") -> WindowRequest:
    length = round(seconds * 44100)
    audio = np.random.default_rng(abs(position)).standard_normal((2, length)).astype(np.float32) * np.float32(0.1)
    return WindowRequest(model, audio, 44100, position, (1000, length - 1000), SeparationSettings(1, 7))


def digest(result: WindowResult) -> str:
    """Short enough to be printed when two of them differ."""
    return hashlib.sha256(result.stems_SCN.tobytes()).hexdigest()


class running:  # noqa: N801 - a context manager, used like a function
    def __init__(self, config: EngineConfig = CPU) -> None:
        self.engine = EngineProcess(config)

    async def __aenter__(self) -> EngineProcess:
        await self.engine.start()
        return self.engine

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it comes true in another process
            await asyncio.sleep(0.01)


async def wait_until_started(engine: EngineProcess) -> None:
    await until(lambda: engine._pending and engine._child and engine._child.ready.done())
    await asyncio.sleep(0.05)  # the engine is at it by then, and not done


@pytest.mark.asyncio
async def test_a_window_comes_back_separated_and_sums_to_the_mixture():
    async with running() as engine:
        request = window()
        result = await engine.run(request)
        assert result.stems_SCN.shape == (5, 2, len(request.audio_CN[0]) - 2000)
        np.testing.assert_allclose(result.stems_SCN.sum(0), request.audio_CN[:, 1000:-1000], atol=1e-6)
        assert engine.device.backend == "torch-cpu"
        assert engine.device.threads == 1
        assert psutil.Process(engine.pid).is_running()


@pytest.mark.asyncio
async def test_the_live_lane_and_the_bounce_lane_give_the_same_bits():
    async with running() as engine:
        slow, fast = await asyncio.gather(engine.run(window(5)), engine.run(window(5), urgent=True))
        assert digest(slow) == digest(fast)


def assert_close(found: WindowResult | Exception, alone: WindowResult) -> None:
    assert isinstance(found, WindowResult), found
    assert found.computed_by == alone.computed_by
    np.testing.assert_allclose(found.stems_SCN, alone.stems_SCN, atol=1e-6)


@pytest.mark.asyncio
async def test_windows_of_a_batch_are_what_they_are_alone_and_one_that_fails_fails_alone():
    async with running() as engine:
        one, broken, other = window(1), window(2), window(3)
        broken.audio_CN[0, 500] = np.inf
        found = await engine.run_together([one, broken, other])
        assert isinstance(found[1], ModelOutputNotFinite)
        assert "window at sample 2" in str(found[1])
        for request, result in ((one, found[0]), (other, found[2])):
            assert_close(result, await engine.run(request))


@pytest.mark.asyncio
async def test_windows_of_a_batch_that_kills_the_engine_are_repeated_alone_and_batches_are_smaller_from_then_on():
    async with running() as engine:
        engine._loaded["stemline-small"] = replace(await engine.load("stemline-small"), live_batch=4)
        requests = [window(position, seconds=5) for position in range(4)]
        together = asyncio.create_task(engine.run_together(requests))
        await wait_until_started(engine)
        os.kill(engine.pid, signal.SIGKILL)
        for request, found in zip(requests, await together, strict=True):
            assert digest(found) == digest(await engine.run(request))
        assert engine.restarts == 1
        assert limit_of(engine.loaded("stemline-small")) == 2


def limit_of(loaded: LoadedModel | None) -> int:
    assert loaded is not None
    return loaded.live_batch


@pytest.mark.asyncio
async def test_a_killed_engine_is_replaced_and_its_windows_are_repeated_with_the_same_bits():
    restarted = []
    engine = EngineProcess(CPU, on_restart=lambda: restarted.append(engine.pid))
    await engine.start()
    try:
        expected = [digest(await engine.run(window(position))) for position in range(3)]
        first_pid = engine.pid
        runs = [asyncio.create_task(engine.run(window(position, seconds=0.5))) for position in range(3)]
        await wait_until_started(engine)
        os.kill(first_pid, signal.SIGKILL)
        assert [digest(await run) for run in runs] == expected
        assert engine.restarts == 1
        assert restarted == [engine.pid]
        assert engine.pid != first_pid
    finally:
        await engine.close()


@pytest.mark.asyncio
async def test_an_idle_engine_that_dies_is_replaced_before_it_is_needed():
    async with running() as engine:
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: engine.restarts)
        assert (await engine.run(window())).stems_SCN.shape[0] == 5


@pytest.mark.asyncio
async def test_a_window_that_kills_three_engines_is_given_up_and_others_are_not():
    async with running() as engine:
        poison = asyncio.create_task(engine.run(window(seconds=300)))
        await wait_until_started(engine)
        innocent = asyncio.create_task(engine.run(window(1)))
        for deaths in range(1, 4):
            await wait_until_started(engine)
            os.kill(engine.pid, signal.SIGKILL)
            await until(lambda deaths=deaths: engine.restarts == deaths)
        with pytest.raises(EngineCrashed, match="3 times while it worked on the window at sample 0"):
            await poison
        assert (await innocent).stems_SCN.shape[0] == 5


@pytest.mark.asyncio
async def test_loading_measures_once_and_remembers_after_a_restart():
    async with running() as engine:
        loaded = await engine.load("stemline-small")
        assert loaded.measured
        assert 0 < loaded.live_window_s(0) <= loaded.live_window_s(1)
        assert loaded.realtime_factor > 0
        assert (await engine.load("stemline-small")) is not None
        os.kill(engine.pid, signal.SIGKILL)
        assert await engine.load("stemline-small") == loaded
        await engine.unload("stemline-small")
        assert engine.loaded("stemline-small") is None


@pytest.mark.asyncio
async def test_the_warm_model_is_loaded_when_start_returns():
    async with running(EngineConfig(device="cpu", threads=1, warm_model="tiny-two")) as engine:
        assert engine.loaded("tiny-two") is not None


@pytest.mark.asyncio
async def test_a_model_that_cannot_be_warmed_does_not_keep_the_server_from_starting():
    async with running(EngineConfig(device="cpu", threads=1, warm_model="nonsense")) as engine:
        assert (await engine.run(window())).stems_SCN.shape[0] == 5


@pytest.mark.asyncio
async def test_an_unknown_model_is_an_error_with_a_suggestion():
    async with running() as engine:
        with pytest.raises(ModelNotFound, match='did you mean "stemline-small"') as caught:
            await engine.run(window(model="stemline-smal"))
        assert caught.value.metadata["nearest"] == "stemline-small"


@pytest.mark.asyncio
async def test_a_model_that_is_imported_again_is_used_from_the_next_window_on(tiny_model_dir, tmp_path, monkeypatch):
    place = tmp_path / "models" / "stemline-small"
    shutil.copytree(tiny_model_dir / "stemline-small", place)
    monkeypatch.setenv("STEMLINE_MODELS", str(tmp_path / "models"))
    async with running() as engine:
        before = digest(await engine.run(window()))
        other = ModelCard.load(tiny_model_dir / "tiny-two" / "card.json")
        shutil.copy(tiny_model_dir / "tiny-two" / "model.safetensors", place)
        (place / "card.json").write_text(replace(other, name="stemline-small").to_json())
        assert digest(await engine.run(window())) != before


@pytest.mark.asyncio
async def test_weights_that_were_tampered_with_are_refused(tiny_model_dir, tmp_path, monkeypatch):
    shutil.copytree(tiny_model_dir, tmp_path / "models")
    weights = tmp_path / "models" / "stemline-small" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setenv("STEMLINE_MODELS", str(tmp_path / "models"))
    async with running() as engine:
        with pytest.raises(ChecksumMismatch, match="not the file its card describes"):
            await engine.run(window())


@pytest.mark.asyncio
async def test_a_model_that_gives_no_numbers_is_an_error_that_names_the_window(tiny_model_dir, tmp_path, monkeypatch):
    broken = tmp_path / "models" / "stemline-small"
    shutil.copytree(tiny_model_dir / "stemline-small", broken)
    tensors = load_file(broken / "model.safetensors")
    save_file(
        {key: torch.full_like(value, float("nan")) for key, value in tensors.items()}, broken / "model.safetensors"
    )
    card = ModelCard.load(broken / "card.json")
    digest = catalogue.sha256_of(broken / "model.safetensors")
    (broken / "card.json").write_text(replace(card, sha256={"model.safetensors": digest}).to_json())
    monkeypatch.setenv("STEMLINE_MODELS", str(tmp_path / "models"))
    async with running() as engine:
        with pytest.raises(ModelOutputNotFinite, match="window at sample 123 with model stemline-small"):
            await engine.run(window(123))


def test_what_is_computed_on_is_not_among_what_could_be_chosen_instead() -> None:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    on_cpu, on_gpu = (other_devices(torch.device(name)) for name in ("cpu", "cuda:0"))
    assert [device.index for device in on_cpu] == list(range(gpus))
    assert [device.backend for device in on_gpu] == ["torch-cuda"] * (len(on_gpu) - 1) + ["torch-cpu"]
    assert on_gpu[-1].total_bytes == psutil.virtual_memory().total


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.asyncio
async def test_a_gpu_that_is_not_there_is_said_at_the_start():
    engine = EngineProcess(EngineConfig(device="cuda:0"))
    with pytest.raises(GpuNotAvailable, match="--cpu"):
        await engine.start()
    await engine.close()


@pytest.mark.asyncio
async def test_closing_ends_the_process_and_whoever_waits():
    engine = EngineProcess(CPU)
    await engine.start()
    process = psutil.Process(engine.pid)
    waiting = asyncio.create_task(engine.run(window(seconds=60)))
    await wait_until_started(engine)
    await engine.close()
    with pytest.raises(EngineClosed):
        await waiting
    with pytest.raises(EngineClosed):
        await engine.run(window())
    assert not process.is_running()


_PARENT = """
import asyncio, sys
import numpy as np
from pyserver.engine.messages import SeparationSettings, WindowRequest, WindowResult
from pyserver.engine.process import EngineConfig, EngineProcess

async def main():
    engine = EngineProcess(EngineConfig(device="cpu", threads=1))
    await engine.start()
    assert "torch" not in sys.modules
    print(engine.pid, flush=True)
    audio = np.ones((2, 44100 * 60), np.float32)
    await engine.run(WindowRequest("stemline-small", audio, 44100, 0, (0, 10), SeparationSettings(1, 0)))

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_the_engine_ends_with_its_parent_also_in_the_middle_of_a_window(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    engine = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs([engine], timeout=30)
    assert not alive, "the engine outlived its parent"
