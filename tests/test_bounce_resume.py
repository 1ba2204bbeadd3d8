"""Bounces that are disturbed: nothing is computed twice or lost, and stems are the same bits whatever happened."""

import asyncio
import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bounce_parts import (
    CARD,
    DATA,
    NAMES,
    SONG,
    WINDOWS,
    Arithmetic,
    bounced,
    collected,
    digests,
    ended,
    make_runner,
    reached,
    spec,
    stored,
)

from pyserver.engine.messages import WindowRequest, WindowResult
from pyserver.errors import DiskFull
from pyserver.separation import job_files
from pyserver.separation.bounce import BounceRunner
from pyserver.separation.errors import JobNotFound, JobWrongState
from pyserver.separation.job_files import JobFiles
from pyserver.separation.jobs import Job, JobState, JobStore
from pyserver.separation.scheduler import Scheduler

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("undisturbed")
    return digests(root, asyncio.run(bounced(root)))


@pytest.mark.asyncio
async def test_a_cancelled_job_stops_and_goes_on_when_it_is_asked_for_again(tmp_path, undisturbed):
    engine = Arithmetic(0.005)
    runner = make_runner(tmp_path, engine)
    job = await runner.create("r", spec())
    await runner.append_input(job.job_id, 0, DATA)
    await reached(runner, job.job_id, len(SONG) // 3)
    job = await runner.cancel(job.job_id)
    assert job.state is JobState.CANCELLED
    assert (await runner.cancel(job.job_id)) == job
    computed = len(engine.computed)
    await asyncio.sleep(0.05)
    assert len(engine.computed) <= computed + 1, "a cancelled job still computes"
    with pytest.raises(JobWrongState, match="CANCELLED"):
        await runner.read_stem(job.job_id, "bass", 0, 10)
    engine.computed.clear()
    assert (await runner.create("r", spec())).state is JobState.QUEUED
    assert (await ended(runner, job.job_id)).state is JobState.SUCCEEDED
    assert digests(tmp_path, job) == undisturbed
    assert len(engine.computed) < WINDOWS - 8
    await runner.close()


@pytest.mark.asyncio
async def test_deleting_a_running_job_leaves_nothing(tmp_path):
    runner = make_runner(tmp_path, Arithmetic(0.005))
    job = await runner.create("r", spec())
    await runner.append_input(job.job_id, 0, DATA)
    watching = asyncio.create_task(collected(runner, job.job_id))
    await asyncio.sleep(0.05)
    await runner.delete(job.job_id)
    with pytest.raises(JobNotFound):
        await watching
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert runner.running == 0
    await runner.close()


class Killed(BaseException):
    """Stands for the end of the process: nothing after it is executed that touches the disk."""


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(12))
async def test_whatever_step_was_the_last_one_the_stems_are_the_same(tmp_path, undisturbed, monkeypatch, seed):
    steps, dice = {"left": 0}, random.Random(seed)

    def may_be_the_last(function):
        def step(*args, **kwargs):
            if steps["left"] == 0:
                raise Killed
            steps["left"] -= 1
            return function(*args, **kwargs)

        return step

    store, job = stored(tmp_path)
    store.close()
    for name in ("_write_at", "replace_file"):
        monkeypatch.setattr(job_files, name, may_be_the_last(getattr(job_files, name)))
    monkeypatch.setattr("pyserver.separation.jobs.replace_file", job_files.replace_file)
    engine = Arithmetic()
    for _ in range(100):
        steps["left"] = dice.randrange(3, 60)
        runner = make_runner(tmp_path, engine)
        await runner.resume_all()
        await asyncio.gather(*runner._tasks.values(), return_exceptions=True)
        job = await runner.get(job.job_id)
        await runner.close()
        if job.state is JobState.SUCCEEDED:
            break
    assert job.state is JobState.SUCCEEDED
    assert digests(tmp_path, job) == undisturbed
    assert {output.stem: output.sha256 for output in job.outputs} == undisturbed


def test_a_server_killed_again_and_again_computes_no_finished_window_twice(tmp_path, undisturbed):
    store, job = stored(tmp_path)
    store.close()
    command = [sys.executable, str(Path(__file__).with_name("bounce_parts.py")), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    computed, kills = [], 0
    while json.loads((tmp_path / job.job_id / "job.json").read_text())["state"] != "SUCCEEDED":
        finished = _finished_windows(tmp_path, job)
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        lines = []
        for line in server.stdout:
            lines.append(int(line))
            if kills < 3 and len(lines) == 3 + 4 * kills:
                server.kill()
                kills += 1
        assert server.wait() in (0, -9)
        assert min(lines, default=0) >= finished * 750 - 150, "a finished window was computed again"
        computed += lines
    assert kills == 3
    assert digests(tmp_path, job) == undisturbed
    assert len(computed) <= WINDOWS - 1 + 3 * kills  # what was under way when it was killed


def _finished_windows(root: Path, job: Job) -> int:
    progress = JobFiles(root / job.job_id, 2, len(SONG)).load_progress(len(NAMES))
    return progress.windows if progress else 0


@pytest.mark.asyncio
async def test_a_full_disk_fails_the_job_clearly_and_it_goes_on_when_there_is_room(tmp_path, undisturbed, monkeypatch):
    engine = Arithmetic()
    room = {"bytes": 300_000}
    write = os.write

    def limited(descriptor, data):
        if room["bytes"] < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        room["bytes"] -= len(data)
        return write(descriptor, data)

    runner = make_runner(tmp_path, engine)
    job = await runner.create("r", spec())
    monkeypatch.setattr(job_files.os, "write", limited)
    await runner.append_input(job.job_id, 0, DATA)
    job = await ended(runner, job.job_id)
    assert (job.state, job.problem.reason) == (JobState.FAILED, "DISK_FULL")
    assert "free some space and start the same job again" in job.problem.message
    done = len(engine.computed)
    assert 3 < done < WINDOWS - 3
    room["bytes"] = 1 << 30
    assert (await runner.create("r", spec())).problem is None
    job = await ended(runner, job.job_id)
    assert job.state is JobState.SUCCEEDED
    assert digests(tmp_path, job) == undisturbed
    assert len(engine.computed) <= WINDOWS - 1 + 3
    await runner.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.asyncio
async def test_a_disk_that_others_fill_while_a_job_runs(small_disk, undisturbed):
    root = small_disk / "jobs"
    runner = make_runner(root, Arithmetic())
    with pytest.raises(DiskFull, match="are free"):
        await runner.create("far too long", spec(num_samples=10 * len(SONG)))
    job = await runner.create("r", spec())
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 400_000))
    await runner.append_input(job.job_id, 0, DATA)
    job = await ended(runner, job.job_id)
    assert (job.state, job.problem.reason) == (JobState.FAILED, "DISK_FULL")
    assert int(job.problem.metadata["free_bytes"]) < 100_000
    ballast.unlink()
    await runner.create("r", spec())
    job = await ended(runner, job.job_id)
    assert digests(root, job) == undisturbed
    await runner.close()


@pytest.mark.asyncio
async def test_a_job_whose_model_changed_on_the_way_begins_again_with_the_new_one(tmp_path):
    engine, cards = Arithmetic(0.005), [CARD]
    store = JobStore(tmp_path)
    runner = BounceRunner(store, Scheduler(engine), lambda _: cards[-1])
    job = await runner.create("r", spec())
    await runner.append_input(job.job_id, 0, DATA)
    await reached(runner, job.job_id, 1)
    await runner.cancel(job.job_id)
    cards.append(replace(CARD, weights=("w",), sha256={"w": "new"}))
    engine.computed.clear()
    await runner.create("r", spec())
    job = await ended(runner, job.job_id)
    assert job.weights_sha256 == "new"
    assert len(engine.computed) >= WINDOWS - 1
    await runner.close()


class _Named(Arithmetic):
    """An engine that says which back end computes; what one makes is not what another makes."""

    def __init__(self, backends: dict[int, str]) -> None:
        """`backends` by the number of windows computed before it takes over."""
        super().__init__(0.005)
        self.backends = backends

    async def run(self, request: WindowRequest, *, urgent: bool = False) -> WindowResult:
        result = await super().run(request, urgent=urgent)
        name = self.backends[max(first for first in self.backends if first < len(self.computed))]
        return replace(result, stems_SCN=result.stems_SCN * np.float32(len(name)), computed_by=name)


@pytest.mark.asyncio
async def test_no_song_is_computed_by_two_back_ends_even_if_another_takes_over_half_way(tmp_path):
    expected = digests(tmp_path / "alone", await bounced(tmp_path / "alone", _Named({0: "onnxruntime-cpu/1"})))

    engine = _Named({0: "torch-cpu", WINDOWS // 2: "onnxruntime-cpu/1"})  # an engine that died, and its successor
    job = await bounced(tmp_path / "one", engine)
    assert job.state is JobState.SUCCEEDED
    assert digests(tmp_path / "one", job) == expected
    assert len(engine.computed) >= WINDOWS + WINDOWS // 2

    # a server that was started with other options, and one that was started with the same
    for before, least, most in (("torch-cpu", WINDOWS, 2 * WINDOWS), ("onnxruntime-cpu/1", 1, WINDOWS - 5)):
        root = tmp_path / before
        runner = make_runner(root, _Named({0: before}))
        job = await runner.create("r", spec())
        await runner.append_input(job.job_id, 0, DATA)
        await reached(runner, job.job_id, len(SONG) // 3)
        await runner.close()
        engine = _Named({0: "onnxruntime-cpu/1"})
        runner = make_runner(root, engine)
        assert await runner.resume_all() == [job.job_id]
        assert (await ended(runner, job.job_id)).state is JobState.SUCCEEDED
        await runner.close()
        assert digests(root, job) == expected
        assert least <= len(engine.computed) <= most


@pytest.mark.asyncio
async def test_finished_stems_that_somebody_deleted_are_computed_again(tmp_path, undisturbed):
    job = await bounced(tmp_path)
    (tmp_path / job.job_id / "stems" / "bass.f32").unlink()
    again = await bounced(tmp_path)
    assert again.state is JobState.SUCCEEDED
    assert digests(tmp_path, again) == undisturbed
