"""What models cost is timed once a day, not at each start."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pyserver.engine.measurements import Measurements
from pyserver.engine.messages import DeviceInfo, LoadedModel
from pyserver.engine.process import EngineConfig, EngineProcess
from pyserver.models import catalogue

CARD = catalogue.find("stemline-small").card
DEVICE = DeviceInfo(
    index=0, name="a processor", backend="torch-cpu", total_bytes=1, free_bytes=1, threads=2, live_preempts=True
)
MODEL = LoadedModel(
    name=CARD.name,
    weights_sha256=CARD.weights_sha256,
    realtime_factor=0.1,
    bounce_window_s=1.0,
    live_base_s=0.2,
    live_step_s=0.3,
    live_batch=4,
)


def test_what_is_kept_is_found_again_by_whom_it_holds_for(tmp_path: Path) -> None:
    path = tmp_path / "measurements.json"
    assert Measurements(path, DEVICE).find(CARD) is None
    Measurements(path, DEVICE).keep(CARD, MODEL)
    assert Measurements(path, DEVICE).find(CARD) == MODEL
    for other in (replace(DEVICE, name="another"), replace(DEVICE, threads=1), replace(DEVICE, backend="torch-cuda")):
        assert Measurements(path, other).find(CARD) is None
    assert Measurements(path, DEVICE).find(replace(CARD, live_window_samples=CARD.live_window_samples * 2)) is None
    changed = replace(CARD, sha256=dict.fromkeys(CARD.weights, "0" * 64))
    assert Measurements(path, DEVICE).find(changed) is None

    Measurements(path, DEVICE).keep(changed, replace(MODEL, live_base_s=9.0))
    found = Measurements(path, DEVICE).find(changed)
    assert found is not None
    assert found.live_base_s == 9.0
    assert Measurements(path, DEVICE).find(CARD) == MODEL
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_day_later_it_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measurements = Measurements(tmp_path / "measurements.json", DEVICE)
    measurements.keep(CARD, MODEL)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 23 * 3600)
    assert measurements.find(CARD) == MODEL
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    assert measurements.find(CARD) is None
    monkeypatch.setattr(time, "time", lambda: now - 3600)  # a clock that was set back
    assert measurements.find(CARD) is None


def test_what_a_version_without_batches_kept_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "measurements.json"
    measurements = Measurements(path, DEVICE)
    measurements.keep(CARD, MODEL)
    entries = json.loads(path.read_text())
    for entry in entries.values():
        del entry["live_batch"]
    path.write_text(json.dumps(entries))
    assert measurements.find(CARD) is None
    measurements.keep(CARD, MODEL)
    assert measurements.find(CARD) == MODEL


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1}', '{"a": {"measured_at": "x"}}', "\x00"])
def test_a_file_that_is_not_ours_counts_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "measurements.json"
    path.write_text(text)
    measurements = Measurements(path, DEVICE)
    assert measurements.find(CARD) is None
    measurements.keep(CARD, MODEL)
    assert measurements.find(CARD) == MODEL


def test_where_nothing_can_be_kept_nothing_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    measurements = Measurements(tmp_path / "gone" / "measurements.json", DEVICE)
    measurements.keep(CARD, MODEL)
    assert "cannot keep what model stemline-small costs here" in caplog.text
    assert measurements.find(CARD) is None
    assert Measurements(None, DEVICE).find(CARD) is None


@pytest.mark.asyncio
async def test_an_engine_takes_what_the_one_before_it_measured(tmp_path: Path) -> None:
    path = tmp_path / "measurements.json"
    config = EngineConfig(device="cpu", threads=1, measurements=path)
    loaded = []
    for _ in range(2):
        engine = EngineProcess(config)
        await engine.start()
        try:
            loaded.append(await engine.load("stemline-small"))
        finally:
            await engine.close()
    assert loaded[0].measured
    assert loaded[1] == loaded[0]

    path.write_text(json.dumps({}))
    engine = EngineProcess(config)
    await engine.start()
    try:
        assert await engine.load("stemline-small") != loaded[0]
    finally:
        await engine.close()
