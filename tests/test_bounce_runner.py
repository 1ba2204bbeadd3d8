"""The runner of bounce jobs: stems sum to the input, progress is told, errors stay in their job, memory is flat."""

import asyncio
from dataclasses import replace

import numpy as np
import psutil
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
    spec,
)

from pyserver.separation.errors import StemUnknown
from pyserver.separation.jobs import JobState

pytestmark = pytest.mark.timeout(120)


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
    watching = asyncio.create_task(collected(runner, job.job_id))
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
    assert [job.state for job in await collected(runner, job.job_id, sequences[-1] - 1)] == [JobState.SUCCEEDED]
    assert await collected(runner, job.job_id, sequences[-1]) == []
    await runner.close()


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
