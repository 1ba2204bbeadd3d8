"""Bounces and a live session on one real engine with a tiny real model: nobody waits too long, no bit changes."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from real_time import Diary, Watch, paced

from pyserver.engine.messages import SeparationSettings
from pyserver.engine.process import EngineConfig, EngineProcess
from pyserver.models import catalogue
from pyserver.separation.bounce import BounceRunner
from pyserver.separation.errors import LatencyNotPossible
from pyserver.separation.jobs import Job, JobSpec, JobState, JobStore
from pyserver.separation.live import LiveDropped, LiveSession
from pyserver.separation.live_plan import LiveCosts, LivePlan, plan_live
from pyserver.separation.live_stream import LiveStream
from pyserver.separation.scheduler import Scheduler

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(180), pytest.mark.usefixtures("tiny_models")]

MODEL = "stemline-small"
BLOCK = 512


def song(seconds: float, rate: int = 44100, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(channels)
    return (rng.standard_normal((round(seconds * rate), channels)) * 0.1).astype(np.float32)


def spec(audio_NC: np.ndarray, rate: int = 44100) -> JobSpec:
    return JobSpec(
        model=MODEL,
        refiner_steps=1,
        noise_seed=5,
        sample_rate_hz=rate,
        channels=audio_NC.shape[1],
        num_samples=len(audio_NC),
        stems=(),
    )


class Server:
    """All of a server but its gRPC."""

    def __init__(self, root: Path, threads: int = 1) -> None:
        self.engine = EngineProcess(EngineConfig(device="cpu", threads=threads, warm_model=MODEL))
        self.scheduler = Scheduler(self.engine)
        self.runner = BounceRunner(JobStore(root), self.scheduler, lambda name: catalogue.find(name).card)

    async def bounce(self, request_id: str, audio_NC: np.ndarray, rate: int = 44100) -> Job:
        job = await self.runner.create(request_id, spec(audio_NC, rate))
        data = audio_NC.tobytes()
        for offset in range(0, len(data), 1 << 18):
            await self.runner.append_input(job.job_id, offset, data[offset : offset + (1 << 18)])
        return job

    async def ended(self, job: Job) -> Job:
        return [event async for event in self.runner.watch(job.job_id)][-1]

    async def stems(self, job: Job) -> dict[str, np.ndarray]:
        return {
            output.stem: np.frombuffer(
                await self.runner.read_stem(job.job_id, output.stem, 0, output.num_bytes), "<f4"
            ).reshape(-1, job.spec.channels)
            for output in job.outputs
        }


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "jobs")
    await server.engine.start()
    yield server
    await server.runner.close()
    await server.engine.close()


def outputs(job: Job) -> dict[str, str]:
    assert job.state is JobState.SUCCEEDED, job.problem
    return {output.stem: output.sha256 for output in job.outputs}


async def test_an_engine_killed_during_a_bounce_changes_nothing_but_the_time(server):
    audio_NC = song(20)
    undisturbed = await server.ended(await server.bounce("undisturbed", audio_NC))
    job = await server.bounce("disturbed", audio_NC)
    kills = 0
    async for now in server.runner.watch(job.job_id):
        if kills < 2 and now.done_samples > len(audio_NC) * (kills + 1) / 3 and server.engine.pid:
            os.kill(server.engine.pid, signal.SIGKILL)
            kills += 1
    assert kills == server.engine.restarts == 2
    assert outputs(await server.runner.get(job.job_id)) == outputs(undisturbed)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (8000, 1), (48000, 6), (192000, 2)])
async def test_stems_have_the_songs_rate_length_and_channels_and_sum_to_it(server, rate, channels):
    audio_NC = song(1.7, rate, channels)
    job = await server.ended(await server.bounce("r", audio_NC, rate))
    stems = await server.stems(job)
    assert list(stems) == ["bass", "drums", "guitar", "piano", "other", "residual"]
    assert {stem.shape for stem in stems.values()} == {audio_NC.shape}
    total = sum(stem.astype(np.float64) for stem in stems.values())
    np.testing.assert_allclose(total, audio_NC, rtol=0, atol=1e-6)


async def test_a_silent_song_has_silent_stems(server):
    job = await server.ended(await server.bounce("r", np.zeros((44100, 2), np.float32)))
    assert all(output.silent for output in job.outputs)


async def test_a_song_of_one_sample_is_a_song(server):
    audio_NC = np.full((1, 2), 0.5, np.float32)
    stems = await server.stems(await server.ended(await server.bounce("r", audio_NC)))
    np.testing.assert_allclose(sum(stem.astype(np.float64) for stem in stems.values()), audio_NC, atol=1e-6)


async def play(server: Server, plan: LivePlan, seconds: float) -> Diary:
    """Streams noise in real time: every sample comes back once, or is named as dropped, and the stems sum to it."""
    live = LiveStream(LiveSession(plan, MODEL, SeparationSettings(1, 0)), server.scheduler, "live")
    audio_CN = song(seconds).T.copy()
    context, rate = plan.fade_samples + plan.lookahead_samples, plan.sample_rate_hz
    diary = Diary(latency=plan.latency_samples, allowance=plan.allowance_samples, context=context, rate=rate)

    async def send() -> None:
        async for start in paced(range(0, audio_CN.shape[1], BLOCK), BLOCK / rate):
            block_CN = audio_CN[:, start : start + BLOCK]
            diary.sent(start + block_CN.shape[1])
            live.feed(start, block_CN)
        live.finish()

    sending = asyncio.create_task(send())
    position = 0
    async for item in live:
        assert item.start_sample == position
        dropped = isinstance(item, LiveDropped)
        stop = position + (item.num_samples if dropped else item.stems_SCN.shape[-1])
        diary.came(position, stop, 0.0 if dropped else item.compute_s, dropped=dropped)
        if not dropped:
            np.testing.assert_allclose(item.stems_SCN.sum(0), audio_CN[:, position:stop], atol=1e-6)
        position = stop
    await sending
    assert position == audio_CN.shape[1]
    return diary


async def assert_live_is_in_time(server: Server, plan: LivePlan, seconds: float) -> None:
    """Nothing is late for which we, and not the machine, are to blame."""
    tries = []
    for _ in range(3):
        with Watch() as watch:
            diary = await play(server, plan, seconds)
        tries.append(diary.to_blame(watch.stalled_s))
        if not tries[-1]:
            return
    pytest.fail(f"late, by try: {tries}")


async def test_live_stems_come_in_time_beside_two_bounces_and_sum_to_the_input(server):
    jobs = [await server.bounce(name, song(40)) for name in "ab"]
    costs = LiveCosts(window_s=0.1, blocking_s=0.0)
    card = catalogue.find(MODEL).card
    plan = plan_live(card, sample_rate_hz=44100, channels=2, block_samples=BLOCK, costs=costs, max_latency_s=None)
    await assert_live_is_in_time(server, plan, seconds=5)
    async for now in server.runner.watch(jobs[0].job_id):
        if now.done_samples:
            break
    assert now.done_samples, "the bounces starved"


async def test_the_shipped_model_is_in_time_at_the_latency_it_promises_beside_two_bounces(tmp_path, monkeypatch):
    monkeypatch.delenv("STEMLINE_MODELS")
    if catalogue.DEFAULT_MODEL not in {entry.name for entry in catalogue.list_models() if entry.installed}:
        pytest.skip("this checkout has no trained model")
    server = Server(tmp_path / "jobs", threads=0)
    await server.engine.start()
    try:
        loaded = await server.engine.load(MODEL)
        blocking_s = 0.0 if server.engine.device.live_preempts else loaded.bounce_window_s
        costs = LiveCosts(window_s=loaded.live_window_s(1), blocking_s=blocking_s)
        card = catalogue.find(MODEL).card
        try:
            plan = plan_live(
                card, sample_rate_hz=44100, channels=2, block_samples=BLOCK, costs=costs, max_latency_s=None
            )
        except LatencyNotPossible as reason:
            pytest.skip(f"nothing was promised: {reason}")
        jobs = [await server.bounce(name, song(60)) for name in "ab"]
        await assert_live_is_in_time(server, plan, seconds=15)
        async for now in server.runner.watch(jobs[0].job_id):
            if now.done_samples:
                break
        assert now.done_samples, "the bounce did not go on"
    finally:
        await server.runner.close()
        await server.engine.close()


async def test_closing_the_server_leaves_its_jobs_to_the_next_one(server, tmp_path):
    audio_NC = song(30)
    job = await server.bounce("r", audio_NC)
    async for now in server.runner.watch(job.job_id):
        if now.done_samples:
            break
    await server.runner.close()
    await server.engine.close()
    following = Server(tmp_path / "jobs")
    await following.engine.start()
    assert (await following.runner.get(job.job_id)).state is JobState.RUNNING
    assert await following.runner.resume_all() == [job.job_id]
    stems = await following.stems(await following.ended(job))
    undisturbed = await following.ended(await following.bounce("again", audio_NC))
    assert {name: hashlib.sha256(stem.tobytes()).hexdigest() for name, stem in stems.items()} == outputs(undisturbed)
    await following.runner.close()
    await following.engine.close()
