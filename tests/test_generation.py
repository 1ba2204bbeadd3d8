"""Generations without a server: where windows lie, that walks may be cut, and what a job makes of its windows."""

import asyncio
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prior_parts import CARD, ONLY_GENERATES, RATE, STEMS, WINDOW, network

from pyserver.audio.resample import resample_to, resampled_blocks
from pyserver.diffusion.noise import normal_stream
from pyserver.engine.errors import ModelCannot
from pyserver.engine.messages import (
    DeviceInfo,
    SeparationSettings,
    WalkRequest,
    WalkResult,
    WindowRequest,
    WindowResult,
)
from pyserver.engine.pipeline import Pipeline
from pyserver.models.card import ModelCard
from pyserver.separation import generation
from pyserver.separation.bounce import BounceRunner
from pyserver.separation.errors import InputEmpty, JobInvalid, StemUnknown
from pyserver.separation.job import Job, JobKind, JobSpec, JobState
from pyserver.separation.jobs import JobStore, checked
from pyserver.separation.piece_plan import PiecePlan
from pyserver.separation.scheduler import Scheduler


@given(st.integers(1, 50), st.integers(0, 49), st.integers(1, 400))
def test_every_sample_is_made_once_and_every_window_hears_what_was_before(
    window: int, overlap: int, num_samples: int
) -> None:
    overlap %= window
    plan, made = PiecePlan(window, overlap, num_samples), 0
    for index in range(plan.count):
        at = plan[index]
        assert at.start + at.overlap == made
        assert at.overlap >= (overlap if index else 0)
        assert at.overlap < window
        made = at.stop
    assert made == max(window, num_samples)


@pytest.mark.parametrize("numbers", [(4, 4, 10), (4, -1, 10), (4, 1, 0)])
def test_plans_that_make_no_sense_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no piece of"):
        PiecePlan(*numbers)
    with pytest.raises(IndexError):
        PiecePlan(4, 1, 10)[3]


def test_noise_depends_on_seed_place_and_step_alone() -> None:
    first = next(normal_stream(1, 2, (3, 4), step=5))
    assert torch.equal(first, next(normal_stream(1, 2, (3, 4), step=5)))
    for other in ((2, 2, 5), (1, 3, 5), (1, 2, 6)):
        assert not torch.equal(first, next(normal_stream(*other[:2], (3, 4), step=other[2])))


def request(first: int, stop: int, x: np.ndarray | None, known: int = 1, position: int = 0) -> WalkRequest:
    sources = np.random.default_rng(0).standard_normal((4, 1000)).astype(np.float32) * np.float32(0.1)
    mask = np.zeros((4, 1000), np.float32)
    mask[:known] = 1
    mask[:, :200] = 1
    return WalkRequest(
        model="tiny-msdm",
        sources_SL=sources,
        mask_SL=mask,
        position=position,
        noise_seed=3,
        steps=7,
        first=first,
        stop=stop,
        x_SP=x,
    )


@pytest.mark.parametrize("cuts", [(7,), (1, 2, 3, 4, 5, 6, 7), (2, 6, 7)])
def test_a_walk_gives_the_same_bits_wherever_it_is_cut(cuts: tuple[int, ...]) -> None:
    """Each segment by a fresh pipeline, as after an engine's death; of a length that the network does not take."""
    settings = CARD.prior
    assert settings is not None
    assert settings.generation is not None
    again = replace(settings.generation, corrections=2)
    card = replace(CARD, prior=replace(settings, generation=again))
    whole = Pipeline(network(), card, torch.device("cpu")).walk(request(0, 7, None)).x_SP
    x, first = None, 0
    for stop in cuts:
        x = Pipeline(network(), card, torch.device("cpu")).walk(request(first, stop, x)).x_SP
        first = stop
    assert x is not None
    assert x.shape == (4, 1000)
    assert x.tobytes() == whole.tobytes()
    sources = request(0, 7, None).sources_SL
    assert np.array_equal(x[0], sources[0])
    assert np.array_equal(x[:, :200], sources[:, :200])
    assert not np.isclose(x[1:, 200:], sources[1:, 200:]).all(axis=1).any()
    elsewhere = Pipeline(network(), card, torch.device("cpu")).walk(request(0, 7, None, position=1)).x_SP
    assert not np.array_equal(elsewhere[1:, 200:], whole[1:, 200:])


def test_resampling_in_blocks_does_not_hear_their_borders() -> None:
    audio = np.random.default_rng(0).standard_normal((20_000, 2)).astype(np.float32)
    for rate, length in ((22050, 10_000), (44100, 20_000), (48000, 21_769), (22050, 12_000), (22050, 9000)):
        cut = [
            np.concatenate(
                list(
                    resampled_blocks(
                        (audio[i : i + size] for i in range(0, len(audio), size)), 44100, rate, num_samples=length
                    )
                )
            )
            for size in (20_000, 4096, 333)
        ]
        assert all(np.array_equal(cut[0], other) for other in cut[1:])
        assert np.abs(cut[0].T - resample_to(audio.T, 44100, rate, length)).max() < 1e-5


def spec(**changes: object) -> JobSpec:
    base = {
        "model": CARD.name,
        "refiner_steps": 4,
        "noise_seed": 0,
        "sample_rate_hz": RATE,
        "channels": 1,
        "num_samples": 3 * WINDOW,
        "stems": (),
        "kind": JobKind.GENERATE,
    }
    return JobSpec(**{**base, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "card", "error", "told"),
    [
        ({"known": ("kazoo",)}, CARD, StemUnknown, '"kazoo"'),
        ({"stems": ("kazoo",)}, CARD, StemUnknown, '"kazoo"'),
        ({"known": ("bass",), "stems": ("bass",)}, CARD, JobInvalid, "is given, so it cannot be asked for"),
        ({"known": ("bass", "bass")}, CARD, JobInvalid, "given twice"),
        ({"known": STEMS}, CARD, JobInvalid, "nothing to be made"),
        ({"num_samples": 0}, CARD, InputEmpty, "no samples"),
        ({"refiner_steps": 1}, CARD, JobInvalid, "can do 2 to 1000"),
        ({"known": ("bass",)}, ONLY_GENERATES, ModelCannot, "tiny-maker cannot accompany, only generate"),
        ({"kind": JobKind.SEPARATE}, ONLY_GENERATES, ModelCannot, "tiny-maker cannot separate, only generate"),
        ({}, replace(CARD, prior=None), ModelCannot, "cannot generate, only separate"),
        ({}, replace(CARD, stems=("bass", "drums", "guitar", "mix")), JobInvalid, '"mix", which cannot be a file'),
    ],
)
def test_generations_that_make_no_sense_are_refused(
    changes: dict[str, object], card: ModelCard, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        checked(spec(**changes), card)


def test_priors_that_neither_separate_nor_generate_are_refused() -> None:
    assert CARD.prior is not None
    with pytest.raises(ValueError, match="does not separate"):
        replace(CARD.prior, separates=False, generation=None, accompanies=False)
    again = ModelCard.from_json(ONLY_GENERATES.to_json())
    assert (again.abilities, again.generation_steps_for(None), again.generation_steps_for(1)) == (("generate",), 6, 2)


def test_jobs_of_separations_are_written_as_before_and_those_of_generations_come_back(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    separation = store.create("s", spec(kind=JobKind.SEPARATE), CARD)
    raw = json.loads(separation.to_json())
    assert "version" not in raw
    assert raw["spec"].keys() == {
        *("model", "refiner_steps", "noise_seed", "sample_rate_hz", "channels", "num_samples", "stems")
    }
    made = store.create("g", spec(known=("drums",)), CARD)
    assert json.loads(made.to_json())["version"] == 2
    for job in (separation, made):
        assert Job.from_json(job.to_json()) == job
    with pytest.raises(ValueError, match="version 3"):
        Job.from_json(json.dumps(json.loads(made.to_json()) | {"version": 3}))
    store.close()


class Arithmetic:
    """A walk whose end depends on all that is known and on its place; each step adds to it, so none may be left out.

    After `most` walks it hangs.
    """

    device = DeviceInfo(index=0, name="", backend="test", total_bytes=0, free_bytes=0, threads=1, live_preempts=False)

    def __init__(self, most: int = 1 << 30) -> None:
        self.walks: list[WalkRequest] = []
        self.done: list[str] = []
        self._most, self.hanging = most, asyncio.Event()

    def loaded(self, model: str) -> None:
        return None

    async def run(self, request: WindowRequest, *, urgent: bool = False) -> WindowResult:
        self.done.append("live" if urgent else request.model)
        return WindowResult(np.zeros((1, 1, 1), np.float32), 0.0)

    async def walk(self, request: WalkRequest) -> WalkResult:
        if len(self.walks) == self._most:
            self.hanging.set()
            await asyncio.Event().wait()
        self.walks.append(request)
        self.done.append(request.model)
        x = np.zeros_like(request.sources_SL) if request.x_SP is None else request.x_SP
        heard = float((request.sources_SL * request.mask_SL).sum())
        for step in range(request.first, request.stop):
            x = x + np.float32(math.sin(request.position + step + request.noise_seed) + 0.01 * heard) * np.float32(0.1)
            x = x + np.arange(x.shape[1], dtype=np.float32) * np.float32(1e-6)
        if request.stop == request.steps:
            x = request.mask_SL * request.sources_SL + (1 - request.mask_SL) * x
        return WalkResult(x.astype(np.float32), generation.SEGMENT_S)  # so one step at a time


def runner_of(root: Path, engine: Arithmetic) -> BounceRunner:
    return BounceRunner(JobStore(root), Scheduler(engine), lambda _: CARD)


async def finished(runner: BounceRunner, job: Job) -> list[Job]:
    async with asyncio.timeout(30):
        return [event async for event in runner.watch(job.job_id)]


async def outputs(runner: BounceRunner, job: Job) -> dict[str, np.ndarray]:
    return {
        output.stem: np.frombuffer(await runner.read_stem(job.job_id, output.stem, 0, 1 << 30), "<f4")
        for output in (await runner.get(job.job_id)).outputs
    }


async def test_windows_go_on_from_what_is_made_and_every_step_is_made_once(tmp_path: Path) -> None:
    engine = Arithmetic()
    runner = runner_of(tmp_path, engine)
    job = await runner.create("r", spec())
    events = await finished(runner, job)
    assert events[-1].state is JobState.SUCCEEDED
    assert [event.done_samples for event in events] == sorted(event.done_samples for event in events)
    plan = PiecePlan(WINDOW, WINDOW // 4, 3 * WINDOW)
    assert [(walk.position, walk.first) for walk in engine.walks] == [
        (plan[index].start, step) for index in range(plan.count) for step in range(4)
    ]
    made = await outputs(runner, job)
    assert set(made) == {*STEMS, "mix"}
    assert np.allclose(made["mix"], sum(made[stem] for stem in STEMS), atol=1e-6)
    for index in range(plan.count):
        at, walk = plan[index], engine.walks[4 * index]
        known = np.stack([made[stem][at.start : at.start + at.overlap] for stem in STEMS])
        assert np.array_equal(walk.sources_SL[:, : at.overlap], known)
        assert walk.mask_SL[:, : at.overlap].all()
        assert not walk.mask_SL[:, at.overlap :].any()
    assert not (tmp_path / job.job_id / "work").exists()
    await runner.close()


async def test_known_stems_are_heard_mono_at_their_share_of_the_models_level_and_never_written(tmp_path: Path) -> None:
    """Stereo at twice the model's rate, shorter than a window; twice as loud in, twice as loud out."""
    rng, found, walks = np.random.default_rng(0), [], []
    known = 0.05 * rng.standard_normal((10_000, 2 * 2)).astype(np.float32)
    for loudness in (1, 2):
        engine = Arithmetic()
        runner = runner_of(tmp_path / str(loudness), engine)
        job = await runner.create(
            "r",
            spec(known=("piano", "bass"), stems=("drums",), sample_rate_hz=44100, channels=2, num_samples=10_000),
        )
        assert job.state is JobState.AWAITING_INPUT
        data = (known * np.float32(loudness)).tobytes()
        await runner.append_input(job.job_id, 0, data[:50_000])
        await runner.append_input(job.job_id, 50_000, data[50_000:])
        assert (await finished(runner, job))[-1].state is JobState.SUCCEEDED
        found.append(await outputs(runner, job))
        walks.append(engine.walks[0])
        await runner.close()
    assert set(found[0]) == {"drums"}
    drums = found[0]["drums"].reshape(-1, 2)
    assert drums.shape == (10_000, 2)
    assert np.array_equal(drums[:, 0], drums[:, 1])
    assert np.abs(drums).max() > 0
    assert np.allclose(found[1]["drums"], 2 * found[0]["drums"], rtol=1e-3, atol=1e-5)
    walk = walks[0]
    assert walk.mask_SL[[0, 3], :5_000].all()  # bass and piano, in the model's order
    assert walk.mask_SL.sum() == 10_000  # nothing is known beyond the end
    level = math.sqrt(float(np.square(walk.sources_SL.sum(axis=0)[:5_000], dtype=np.float64).mean()))
    assert level == pytest.approx(CARD.reference_rms * math.sqrt(2 / 4), rel=1e-4)
    piano = resample_to(known[:, :2].mean(axis=1), 44100, RATE, 5_000)
    heard = walk.sources_SL[3, :5_000]
    assert np.corrcoef(piano, heard)[0, 1] > 0.9999


async def test_silence_is_accompanied_too(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, Arithmetic())
    job = await runner.create("r", spec(known=("bass",), num_samples=100))
    await runner.append_input(job.job_id, 0, bytes(400))
    assert (await finished(runner, job))[-1].state is JobState.SUCCEEDED
    assert set(await outputs(runner, job)) == {"drums", "guitar", "piano"}
    await runner.close()


async def test_a_stopped_generation_goes_on_at_its_last_window_with_the_same_bytes(tmp_path: Path) -> None:
    whole = runner_of(tmp_path / "whole", Arithmetic())
    job = await whole.create("r", spec())
    await finished(whole, job)
    expected = await outputs(whole, job)
    await whole.close()

    first = Arithmetic(most=9)  # two windows and a step
    runner = runner_of(tmp_path / "cut", first)
    await runner.create("r", spec())
    async with asyncio.timeout(30):
        await first.hanging.wait()
    await runner.close()
    second = Arithmetic()
    runner = runner_of(tmp_path / "cut", second)
    assert await runner.resume_all() == [job.job_id]
    assert (await finished(runner, job))[-1].state is JobState.SUCCEEDED
    plan = PiecePlan(WINDOW, WINDOW // 4, 3 * WINDOW)
    assert second.walks[0].position == plan[2].start
    assert second.walks[0].first == 0
    found = await outputs(runner, job)
    assert {name: found[name].tobytes() for name in found} == {name: expected[name].tobytes() for name in expected}
    await runner.close()


async def test_a_cancelled_generation_is_opened_again_by_its_request(tmp_path: Path) -> None:
    engine = Arithmetic(most=6)
    runner = runner_of(tmp_path, engine)
    job = await runner.create("r", spec())
    async with asyncio.timeout(30):
        await engine.hanging.wait()
    assert (await runner.cancel(job.job_id)).state is JobState.CANCELLED
    await runner.close()
    runner = runner_of(tmp_path, fresh := Arithmetic())
    assert (await runner.create("r", spec())).state is JobState.QUEUED
    assert (await finished(runner, job))[-1].state is JobState.SUCCEEDED
    assert fresh.walks[0].position > 0
    await runner.close()


async def test_walks_take_turns_with_bounces_and_wait_for_live_windows() -> None:
    engine = Arithmetic()
    scheduler = Scheduler(engine)
    audio = np.zeros((1, 1), np.float32)

    def window(model: str) -> WindowRequest:
        return WindowRequest(model, audio, RATE, 0, (0, 1), SeparationSettings(0, 0))

    async with asyncio.timeout(10):
        await asyncio.gather(
            *(scheduler.submit_walk(replace(request(0, 1, None), model="walk"), owner="a") for _ in range(3)),
            scheduler.submit(window("bounce"), owner="b"),
            scheduler.submit(window("live"), owner="c", deadline=asyncio.get_running_loop().time() + 1e6),
        )
    assert engine.done == ["walk", "live", "walk", "bounce", "walk"]
