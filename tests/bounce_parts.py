"""A bounce without a network: what the tests of jobs and the process that they kill have in common.

Run as a program it is a server without gRPC: `python bounce_parts.py STORE` goes on with every job until it has ended,
writing a line for every window that it computes.
"""

import asyncio
import hashlib
import sys
import threading
from pathlib import Path

import numpy as np

from pyserver.engine.messages import DeviceInfo, WindowRequest, WindowResult
from pyserver.models.card import ModelCard
from pyserver.separation.bounce import BounceRunner
from pyserver.separation.jobs import Job, JobSpec, JobStore
from pyserver.separation.scheduler import Scheduler

CARD = ModelCard(
    name="m",
    title="",
    architecture="",
    config={},
    stems=("bass", "drums", "other"),
    sample_rate_hz=44100,
    channels=2,
    window_samples=1000,
    margin_samples=100,
    fade_samples=50,
    live_window_samples=1000,
    live_lookahead_samples=100,
    reference_rms=0.1,
    complete=False,
    refiner=None,
    licence="",
    weights=(),
    sha256={},
)
SONG = np.random.default_rng(3).standard_normal((20_000, 2)).astype(np.float32) * np.float32(0.1)
DATA = SONG.tobytes()
WINDOWS = 28  # of the song, with the card's shape: 1 + ceil((20000 - 700) / 750) and none more
NAMES = ("bass", "drums", "other", "residual")


def spec(**changes: object) -> JobSpec:
    base = {
        "model": "m",
        "refiner_steps": 0,
        "noise_seed": 0,
        "sample_rate_hz": 44100,
        "channels": 2,
        "num_samples": len(SONG),
        "stems": (),
    }
    return JobSpec(**{**base, **changes})


class Arithmetic:
    """An engine whose stems depend on the whole window and its place, so that any slip of either shows in the bits."""

    device = DeviceInfo(index=0, name="", backend="test", total_bytes=0, free_bytes=0, threads=1, live_preempts=False)

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.computed: list[int] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    async def run(self, request: WindowRequest, *, urgent: bool = False) -> WindowResult:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(self.delay_s)
        self._now -= 1
        self.computed.append(request.position)
        low, high = request.keep
        kept = request.audio_CN[:, low:high]
        colour = np.float32(request.audio_CN.mean() + np.sin(request.position))
        return WindowResult(np.stack([kept * colour, kept * np.float32(0.3), np.roll(kept, 1, axis=1)]), 0.0)


def make_runner(root: Path, engine: Arithmetic) -> BounceRunner:
    return BounceRunner(JobStore(root), Scheduler(engine), lambda _: CARD)


def stored(root: Path, **changes: object) -> tuple[JobStore, Job]:
    """A store with one job whose input is whole."""
    store = JobStore(root)
    job = store.create("r", spec(**changes), CARD)
    return store, store.append_input(job.job_id, 0, DATA[: job.spec.input_bytes])


async def collected(runner: BounceRunner, job_id: str, after: int = 0) -> list[Job]:
    """All events of a job to its end."""
    async with asyncio.timeout(60):
        return [job async for job in runner.watch(job_id, after)]


async def ended(runner: BounceRunner, job_id: str) -> Job:
    return (await collected(runner, job_id))[-1]


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


class _Announcing(Arithmetic):
    async def run(self, request: WindowRequest, *, urgent: bool = False) -> WindowResult:
        result = await super().run(request, urgent=urgent)
        print(request.position, flush=True)
        return result


async def _main(root: Path) -> None:
    runner = make_runner(root, _Announcing(delay_s=0.005))
    for job_id in await runner.resume_all():
        async for _ in runner.watch(job_id):
            pass
    await runner.close()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
