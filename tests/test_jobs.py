"""Bounce jobs: nothing is computed twice or lost, and stems are the same bits whatever happened on the way."""

import asyncio
import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from bounce_parts import CARD, DATA, SONG, Arithmetic, make_runner, spec

from pyserver.errors import DiskFull
from pyserver.separation import job_files
from pyserver.separation.bounce import BounceRunner
from pyserver.separation.errors import (
    InputEmpty,
    InputNotFinite,
    JobConflict,
    JobCorrupted,
    JobInvalid,
    JobNotFound,
    JobWrongState,
    StateInUse,
    StemUnknown,
    UploadOutOfOrder,
)
from pyserver.separation.job_files import JobFiles
from pyserver.separation.jobs import Job, JobState, JobStore
from pyserver.separation.scheduler import Scheduler

pytestmark = pytest.mark.timeout(120)

WINDOWS = 28  # of the song, with the card's shape: 1 + ceil((20000 - 700) / 750) and none more
NAMES = ("bass", "drums", "other", "residual")


def stored(root: Path, **changes: object) -> tuple[JobStore, Job]:
    """A store with one job whose input is whole."""
    store = JobStore(root)
    job = store.create("r", spec(**changes), CARD)
    return store, store.append_input(job.job_id, 0, DATA[: job.spec.input_bytes])


async def ended(runner: BounceRunner, job_id: str) -> Job:
    async with asyncio.timeout(60):
        seen = [job async for job in runner.watch(job_id)]
    return seen[-1]


async def reached(runner: BounceRunner, job_id: str, done_samples: int) -> None:
    async with asyncio.timeout(60):
        async for job in runner.watch(job_id):
            if job.done_samples >= done_samples:
                return


async def bounced(root: Path, engine: Arithmetic | None = None) -> Job:
    runner = make_runner(root, engine or Arithmetic())
    job = await runner.create("r", spec())
    if not job.committed_bytes:
        await runner.append_input(job.job_id, 0, DATA)
    job = await ended(runner, job.job_id)
    await runner.close()
    return job


def digests(root: Path, job: Job) -> dict[str, str]:
    files = {name: root / job.job_id / "stems" / f"{name}.f32" for name in NAMES}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("undisturbed")
    return digests(root, asyncio.run(bounced(root)))


# What a job accepts


def test_the_same_request_is_the_same_job_also_in_another_server(tmp_path):
    store = JobStore(tmp_path)
    job = store.create("r", spec(stems=("drums", "bass")), CARD)
    assert store.create("r", spec(stems=("bass", "drums")), CARD) == job
    store.close()
    assert JobStore(tmp_path).create("r", spec(stems=("drums", "bass")), CARD) == job
    assert job.spec.stems == ("bass", "drums")


def test_a_request_id_with_other_settings_is_refused(tmp_path):
    store = JobStore(tmp_path)
    store.create("r", spec(), CARD)
    with pytest.raises(JobConflict, match='"r" belongs to a job with other settings'):
        store.create("r", spec(noise_seed=1), CARD)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_samples": 0}, InputEmpty, "no samples"),
        ({"channels": 0}, JobInvalid, "0 channels"),
        ({"channels": 1000}, JobInvalid, "1000 channels"),
        ({"sample_rate_hz": 0}, JobInvalid, "0 Hz"),
        ({"refiner_steps": 1}, JobInvalid, "1 refiner steps: model m can do 0 to 0"),
        ({"stems": ("vocals",)}, StemUnknown, 'no stem "vocals", only bass, drums, other'),
        ({"num_samples": 10**13}, DiskFull, "bytes in"),
    ],
)
def test_what_cannot_be_separated_is_refused_at_once(tmp_path, changes, error, message):
    store = JobStore(tmp_path)
    with pytest.raises(error, match=message):
        store.create("r", spec(**changes), CARD)
    assert store.list_jobs() == []


def test_a_stem_whose_name_is_a_path_never_becomes_a_file(tmp_path):
    with pytest.raises(JobInvalid, match="cannot be a file"):
        JobStore(tmp_path).create("r", spec(), replace(CARD, stems=("../../evil",)))


def test_space_that_other_jobs_will_need_is_not_promised_twice(tmp_path, monkeypatch):
    store = JobStore(tmp_path)
    need = 5 * len(DATA) + (1 << 20)
    monkeypatch.setattr("pyserver.separation.jobs.free_bytes", lambda _: 2 * need - 1)
    store.create("first", spec(), CARD)
    with pytest.raises(DiskFull, match="other jobs will need") as refused:
        store.create("second", spec(), CARD)
    assert int(refused.value.metadata["need_bytes"]) == 2 * need


# Upload


def test_an_upload_goes_on_where_it_stopped_also_in_another_server(tmp_path):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    store.append_input(job.job_id, 0, DATA[:1000])
    store.close()
    store = JobStore(tmp_path)
    assert store.get(job.job_id).committed_bytes == 1000
    assert store.append_input(job.job_id, 1000, DATA[1000:]).state is JobState.QUEUED
    assert (tmp_path / job.job_id / "input.f32").read_bytes() == DATA


def test_a_chunk_at_the_wrong_place_is_told_the_right_one(tmp_path):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    store.append_input(job.job_id, 0, DATA[:1000])
    for offset in (0, 996, 1004):
        with pytest.raises(UploadOutOfOrder) as refused:
            store.append_input(job.job_id, offset, DATA[offset : offset + 1000])
        assert refused.value.metadata["committed_bytes"] == "1000"


def test_a_write_that_was_cut_off_in_the_middle_of_a_sample_does_not_count(tmp_path):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    (tmp_path / job.job_id / "input.f32").write_bytes(DATA[:1003])
    assert store.get(job.job_id).committed_bytes == 1000
    store.append_input(job.job_id, 1000, DATA[1000:])
    assert (tmp_path / job.job_id / "input.f32").read_bytes() == DATA


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_refused_with_its_place_and_nothing_of_its_chunk_is_kept(tmp_path, bad):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    song = SONG.copy()
    song[700, 1] = bad
    store.append_input(job.job_id, 0, song.tobytes()[:4000])
    with pytest.raises(InputNotFinite) as refused:
        store.append_input(job.job_id, 4000, song.tobytes()[4000:])
    assert refused.value.metadata == {"frame": "700", "channel": "1"}
    assert store.get(job.job_id).committed_bytes == 4000


def test_more_input_than_announced_or_half_a_sample_is_refused(tmp_path):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    for data in (DATA + b"\0\0\0\0", DATA[:1002]):
        with pytest.raises(JobInvalid, match="not whole samples of an input"):
            store.append_input(job.job_id, 0, data)
    store.append_input(job.job_id, 0, DATA)
    with pytest.raises(JobWrongState, match="takes no input: it is QUEUED"):
        store.append_input(job.job_id, len(DATA), b"")


# On disk


def test_two_servers_cannot_have_the_same_store(tmp_path):
    first = JobStore(tmp_path)
    with pytest.raises(StateInUse, match="another server"):
        JobStore(tmp_path)
    first.close()
    JobStore(tmp_path).close()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "NONSENSE"}', "\x00" * 100])
def test_a_corrupted_job_is_reported_and_replaced_when_it_is_asked_for_again(tmp_path, content):
    store, job = stored(tmp_path)
    store.close()
    (tmp_path / job.job_id / "job.json").write_text(content)
    store = JobStore(tmp_path)
    with pytest.raises(JobCorrupted, match="delete the job"):
        store.get(job.job_id)
    (listed,) = store.list_jobs()
    assert (listed.state, listed.problem.reason) == (JobState.FAILED, "JOB_CORRUPTED")
    assert store.create("r", spec(), CARD).committed_bytes == 0


def test_jobs_are_listed_in_pages(tmp_path):
    store = JobStore(tmp_path)
    ids = sorted(store.create(f"r{n}", spec(), CARD).job_id for n in range(7))
    first = store.list_jobs(limit=3)
    rest = store.list_jobs(after=first[-1].job_id, limit=100)
    assert [job.job_id for job in (*first, *rest)] == ids


@pytest.mark.parametrize("job_id", ["", "..", "../x", "0" * 31, "0" * 32])
def test_an_id_that_is_none_finds_nothing(tmp_path, job_id):
    store = JobStore(tmp_path / "store")
    for call in (store.get, store.delete):
        with pytest.raises(JobNotFound):
            call(job_id)


def test_idle_jobs_expire_and_unfinished_ones_do_not(tmp_path):
    store = JobStore(tmp_path, retention_s=100)
    waiting = store.create("waiting", spec(), CARD)
    _, running = store, store.create("running", spec(), CARD)
    store.append_input(running.job_id, 0, DATA)
    assert store.expire(time.time()) == []
    assert store.expire(time.time() + 101) == [waiting.job_id]
    assert [job.job_id for job in store.list_jobs()] == [running.job_id]


# Running


@pytest.mark.asyncio
async def test_stems_and_residual_sum_to_the_input_and_are_described(tmp_path):
    engine = Arithmetic()
    job = await bounced(tmp_path, engine)
    assert job.state is JobState.SUCCEEDED
    stems = {name: np.fromfile(tmp_path / job.job_id / "stems" / f"{name}.f32", "<f4") for name in NAMES}
    np.testing.assert_allclose(sum(value.astype(np.float64) for value in stems.values()), SONG.ravel(), atol=1e-6)
    assert [output.stem for output in job.outputs] == list(NAMES)
    found = digests(tmp_path, job)
    for output in job.outputs:
        assert output.sha256 == found[output.stem]
        assert output.num_bytes == len(DATA)
        assert output.peak == np.abs(stems[output.stem]).max()
        assert not output.silent
    assert len(engine.computed) == len(set(engine.computed)) == WINDOWS - 1
    assert engine.most == 1


@pytest.mark.asyncio
async def test_only_the_stems_asked_for_are_written_and_the_residual_is_the_rest(tmp_path):
    runner = make_runner(tmp_path, Arithmetic())
    job = await runner.create("r", spec(stems=("drums",)))
    await runner.append_input(job.job_id, 0, DATA)
    job = await ended(runner, job.job_id)
    assert [output.stem for output in job.outputs] == ["drums", "residual"]
    residual = np.frombuffer(await runner.read_stem(job.job_id, "residual", 0, 1 << 30), "<f4")
    np.testing.assert_allclose(residual, SONG.ravel() * 0.7, atol=1e-6)
    with pytest.raises(StemUnknown, match="only drums, residual"):
        await runner.read_stem(job.job_id, "bass", 0, 10)
    assert await runner.read_stem(job.job_id, "drums", len(DATA), 10) == b""
    await runner.close()


@pytest.mark.asyncio
async def test_silence_gives_silent_stems(tmp_path):
    runner = make_runner(tmp_path, Arithmetic())
    job = await runner.create("r", spec())
    await runner.append_input(job.job_id, 0, bytes(len(DATA)))
    job = await ended(runner, job.job_id)
    assert all(output.silent and output.peak == 0 for output in job.outputs)
    await runner.close()


@pytest.mark.asyncio
async def test_watching_sees_progress_grow_to_the_end_and_replays_from_any_event(tmp_path):
    runner = make_runner(tmp_path, Arithmetic(0.001))
    job = await runner.create("r", spec())
    watching = asyncio.create_task(_collect(runner, job.job_id))
    await asyncio.sleep(0.02)
    await runner.append_input(job.job_id, 0, DATA)
    seen = await watching
    sequences = [job.sequence for job in seen]
    assert sequences == sorted(set(sequences))
    assert seen[0].state is JobState.AWAITING_INPUT
    assert seen[-1].state is JobState.SUCCEEDED
    done = [job.done_samples for job in seen]
    assert done == sorted(done)
    assert done[-1] == len(SONG)
    assert any(job.remaining_s for job in seen)
    assert [job.state for job in await _collect(runner, job.job_id, sequences[-1] - 1)] == [JobState.SUCCEEDED]
    assert await _collect(runner, job.job_id, sequences[-1]) == []
    await runner.close()


async def _collect(runner: BounceRunner, job_id: str, after: int = 0) -> list[Job]:
    async with asyncio.timeout(30):
        return [job async for job in runner.watch(job_id, after)]


@pytest.mark.asyncio
async def test_two_jobs_share_the_engine_evenly(tmp_path):
    engine = Arithmetic(0.002)
    runner = make_runner(tmp_path, engine)
    jobs = [await runner.create(name, spec()) for name in "ab"]
    for job in jobs:
        await runner.append_input(job.job_id, 0, DATA)
    first = await ended(runner, jobs[0].job_id)
    second = await runner.get(jobs[1].job_id)
    assert second.done_samples > 0.8 * first.done_samples
    assert (await ended(runner, second.job_id)).state is JobState.SUCCEEDED
    assert engine.most == 1
    await runner.close()


# What may happen on the way


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
    watching = asyncio.create_task(_collect(runner, job.job_id))
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


def test_an_upload_onto_a_full_disk_keeps_what_was_whole(tmp_path, monkeypatch):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    store.append_input(job.job_id, 0, DATA[:1000])
    write = os.write

    def half(descriptor, data):
        if len(data) < 3000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(job_files.os, "write", half)
    with pytest.raises(DiskFull) as full:
        store.append_input(job.job_id, 1000, DATA[1000:11000])
    assert full.value.metadata["path"].endswith("input.f32")
    assert (tmp_path / job.job_id / "input.f32").stat().st_size == 1000
    monkeypatch.undo()
    assert store.append_input(job.job_id, 1000, DATA[1000:]).state is JobState.QUEUED


@pytest.mark.asyncio
async def test_an_engine_error_fails_its_job_with_the_reason_and_no_other(tmp_path):
    class Choosy(Arithmetic):
        async def run(self, request, *, urgent=False):
            if request.settings.noise_seed == 13:
                raise StemUnknown("no such luck", stem="x")
            return await super().run(request, urgent=urgent)

    runner = make_runner(tmp_path, Choosy())
    jobs = [await runner.create(f"r{seed}", spec(noise_seed=seed)) for seed in (13, 1)]
    for job in jobs:
        await runner.append_input(job.job_id, 0, DATA)
    failed, fine = [await ended(runner, job.job_id) for job in jobs]
    assert (failed.problem.reason, failed.problem.message) == ("STEM_UNKNOWN", "no such luck")
    assert failed.problem.metadata == {"stem": "x"}
    assert fine.state is JobState.SUCCEEDED
    await runner.close()


@pytest.mark.asyncio
async def test_an_error_nobody_foresaw_does_not_leak_its_text(tmp_path):
    class Broken(Arithmetic):
        async def run(self, request, *, urgent=False):
            raise ZeroDivisionError("secret")

    job = await bounced(tmp_path, Broken())
    assert job.problem.reason == "INTERNAL"
    assert "secret" not in job.problem.message


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


@pytest.mark.asyncio
async def test_finished_stems_that_somebody_deleted_are_computed_again(tmp_path, undisturbed):
    job = await bounced(tmp_path)
    (tmp_path / job.job_id / "stems" / "bass.f32").unlink()
    again = await bounced(tmp_path)
    assert again.state is JobState.SUCCEEDED
    assert digests(tmp_path, again) == undisturbed


@pytest.mark.asyncio
async def test_memory_does_not_grow_with_the_song(tmp_path):
    async def peak_growth(seconds: int) -> int:
        runner = make_runner(tmp_path, Arithmetic())
        card = replace(CARD, window_samples=44100 * 4, margin_samples=4410, fade_samples=4410)
        runner._find_card = lambda _: card
        job = await runner.create(f"{seconds}", spec(num_samples=44100 * seconds))
        second = bytes(44100 * 8)
        for n in range(seconds):
            await runner.append_input(job.job_id, n * len(second), second)
        process, most = psutil.Process(), 0
        before = process.memory_info().rss
        now = job
        async for now in runner.watch(job.job_id):  # noqa: B007 - the last one is looked at
            most = max(most, process.memory_info().rss)
        assert now.state is JobState.SUCCEEDED
        await runner.close()
        return most - before

    await peak_growth(30)
    assert await peak_growth(300) < 60 << 20  # the song and its stems are 500 MB
