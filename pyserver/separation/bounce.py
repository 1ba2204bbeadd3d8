"""Runs jobs: from disk through the engine to disk, window by window, to be resumed at any of them.

Bounces here; what makes stems from nothing, or to go with others, is in `generation`.

Axes: S stems, C channels, N samples.
"""

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np

from pyserver.engine.errors import EngineClosed, EngineFailed
from pyserver.engine.messages import SeparationSettings, WalkRequest, WalkResult, WindowRequest, WindowResult
from pyserver.errors import DiskFull, StemlineError
from pyserver.models.card import ModelCard
from pyserver.separation.generation import Generation
from pyserver.separation.job_files import JobFiles, Progress
from pyserver.separation.jobs import RESIDUAL, Job, JobKind, JobProblem, JobSpec, JobState, JobStore, StemOutput
from pyserver.separation.overlap import OverlapAdd
from pyserver.separation.scheduler import Scheduler
from pyserver.separation.tasks import to_the_end
from pyserver.separation.windows import Window, WindowShape, plan

log = logging.getLogger(__name__)

_PREFETCH = 2  # windows asked for at a time: the engine never waits for the disk
_NOTHING_DONE = {"done_samples": 0, "elapsed_s": 0.0}


class BounceRunner:
    """The one door to jobs for the service. Methods run on the event loop; disk work is done in threads."""

    def __init__(self, store: JobStore, scheduler: Scheduler, find_card: Callable[[str], ModelCard]) -> None:
        """`find_card` gives an installed model's card or raises what the catalogue raises."""
        self._store, self._scheduler, self._find_card = store, scheduler, find_card
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()

    async def create(self, request_id: str, spec: JobSpec) -> Job:
        """As JobStore.create; a job whose input is already whole starts at once. `spec.stems` empty means all."""
        card = await asyncio.to_thread(self._find_card, spec.model)
        job = await asyncio.to_thread(self._store.create, request_id, spec, card)
        return await self._moved(job)

    async def append_input(self, job_id: str, offset: int, data: bytes) -> Job:
        """As JobStore.append_input; the job starts when its input is whole."""
        return await self._moved(await asyncio.to_thread(self._store.append_input, job_id, offset, data))

    async def get(self, job_id: str) -> Job:
        return await asyncio.to_thread(self._store.get, job_id)

    async def list_jobs(self, *, after: str = "", limit: int = 100) -> list[Job]:
        return await asyncio.to_thread(lambda: self._store.list_jobs(after=after, limit=limit))

    async def read_stem(self, job_id: str, stem: str, offset: int, size: int) -> bytes:
        return await asyncio.to_thread(self._store.read_stem, job_id, stem, offset, size)

    async def cancel(self, job_id: str) -> Job:
        """Stop a job between windows and keep what it has; a job that has ended stays as it is."""
        job = await self.get(job_id)
        await self._stop(job_id)
        job = await self.get(job_id)
        if job.state.ended:
            return job
        return await self._moved(await self._update(job_id, state=JobState.CANCELLED))

    async def delete(self, job_id: str) -> None:
        """Cancel if need be and remove every file."""
        await self._stop(job_id)
        await asyncio.to_thread(self._store.delete, job_id)
        async with self._changed:
            self._changed.notify_all()

    async def watch(self, job_id: str, after_event: int = 0) -> AsyncIterator[Job]:
        """The job now (if its `sequence` is above `after_event`), then after changes, until it has ended.

        A slow reader misses states in between, never the last. Raises JobNotFound, also when deleted meanwhile.
        """
        while True:
            async with self._changed:
                while (job := await self.get(job_id)).sequence <= after_event and not job.state.ended:
                    await self._changed.wait()
            if job.sequence > after_event:
                after_event = job.sequence
                yield job
            if job.state.ended:
                return

    async def resume_all(self) -> list[str]:
        """At server start: go on with every job that was QUEUED or RUNNING, and delete expired ones."""
        await asyncio.to_thread(self._store.expire, time.time())
        resumed, after = [], ""
        while jobs := await self.list_jobs(after=after):
            after = jobs[-1].job_id
            for job in jobs:
                if job.state in (JobState.QUEUED, JobState.RUNNING):
                    self._start(job.job_id)
                    resumed.append(job.job_id)
        return resumed

    async def expire(self) -> list[str]:
        """Delete jobs whose time is over; to be called now and then."""
        return await asyncio.to_thread(self._store.expire, time.time())

    @property
    def running(self) -> int:
        """Jobs under way."""
        return len(self._tasks)

    async def close(self) -> None:
        """Stop between windows; the jobs stay RUNNING on disk and go on with the next server."""
        for job_id in list(self._tasks):
            await self._stop(job_id)
        self._store.close()

    def _start(self, job_id: str) -> None:
        if job_id not in self._tasks:
            task = asyncio.create_task(self._run(job_id), name=f"bounce {job_id}")
            self._tasks[job_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(job_id, None))

    async def _stop(self, job_id: str) -> None:
        task = self._tasks.get(job_id)
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _moved(self, job: Job) -> Job:
        """Tell those who watch, and see to it that a job with its whole input runs."""
        if job.state is JobState.QUEUED:
            self._start(job.job_id)
        async with self._changed:
            self._changed.notify_all()
        return job

    async def _update(self, job_id: str, **changes: Any) -> Job:
        return await to_the_end(asyncio.to_thread(lambda: self._store.update(job_id, **changes)))

    async def _run(self, job_id: str) -> None:
        """From wherever the job stands to its end. Cancelled, it stops with everything that is finished on disk."""
        try:
            job = await self.get(job_id)
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                return  # cancelled between its last byte and its start
            job = await self._update(job_id, state=JobState.RUNNING)
            card = await asyncio.to_thread(self._find_card, job.spec.model)
            job = await self._same_weights(job, card)
            job = await self._moved(job)
            if job.spec.kind is JobKind.SEPARATE:
                outputs = await self._separate_alike(job, card)
            else:
                outputs = await self._generate(job, card)
            done = {"state": JobState.SUCCEEDED, "outputs": outputs, "done_samples": job.spec.num_samples}
            await self._moved(await self._update(job_id, **done))
            await asyncio.to_thread(self._store.files(job).forget_work)
        except EngineClosed:
            return  # the server is going; the next one resumes the job
        except StemlineError as error:
            log.warning("job %s failed: %s", job_id, error)
            await self._fail(job_id, error)
        except Exception:
            error_id = uuid.uuid4().hex[:12]
            log.exception("job %s failed, error %s", job_id, error_id)
            await self._fail(job_id, EngineFailed(f"the job failed unexpectedly (error {error_id})", error_id=error_id))

    async def _fail(self, job_id: str, error: StemlineError) -> None:
        try:
            job = await self._update(job_id, state=JobState.FAILED, problem=JobProblem.of(error))
        except DiskFull:
            # The store remembers it in memory; on disk the job is still RUNNING and a new server would resume it.
            job = await self.get(job_id)
        await self._moved(job)

    async def _same_weights(self, job: Job, card: ModelCard) -> Job:
        """One song never gets stems of two versions of a model: if it has changed, the job begins again."""
        if job.weights_sha256 == card.weights_sha256:
            return job
        await asyncio.to_thread(self._store.files(job).forget_progress)
        return await self._update(job.job_id, weights_sha256=card.weights_sha256, **_NOTHING_DONE)

    async def _separate_alike(self, job: Job, card: ModelCard) -> tuple[StemOutput, ...]:
        """One song never gets stems of two back ends, which agree but for the last bits: if another one computes now,
        as after a restart with other options, the job begins again."""
        try:
            return await self._separate(job, card)
        except _OtherBackend as error:
            log.warning("job %s begins again: %s", job.job_id, error)
        await asyncio.to_thread(self._store.files(job).forget_progress)
        return await self._separate_alike(await self._moved(await self._update(job.job_id, **_NOTHING_DONE)), card)

    async def _separate(self, job: Job, card: ModelCard) -> tuple[StemOutput, ...]:
        writer = await asyncio.to_thread(_StemWriter, self._store.files(job), job.spec, card)
        spec, began = job.spec, time.monotonic()
        windows = plan(writer.shape, spec.num_samples, first=writer.windows)
        ahead: deque[tuple[Window, asyncio.Task[WindowResult]]] = deque()
        try:
            while True:
                while len(ahead) < _PREFETCH and (window := next(windows, None)):
                    ahead.append((window, asyncio.create_task(self._compute(job, writer, window))))
                if not ahead:
                    break
                window, computing = ahead[0]
                result = await computing
                ahead.popleft()
                await to_the_end(asyncio.to_thread(writer.push, window, result))
                elapsed_s = job.elapsed_s + time.monotonic() - began
                changes = {"done_samples": writer.done_samples, "elapsed_s": elapsed_s}
                await self._moved(await self._update(job.job_id, **changes))
        finally:
            for _, computing in ahead:
                computing.cancel()
            await asyncio.gather(*(computing for _, computing in ahead), return_exceptions=True)
        return await asyncio.to_thread(writer.finish)

    async def _generate(self, job: Job, card: ModelCard) -> tuple[StemOutput, ...]:
        began = time.monotonic()

        async def walk(request: WalkRequest) -> WalkResult:
            return await self._scheduler.submit_walk(request, owner=job.job_id)

        async def report(done_samples: int) -> None:
            elapsed_s = job.elapsed_s + time.monotonic() - began
            await self._moved(await self._update(job.job_id, done_samples=done_samples, elapsed_s=elapsed_s))

        brief = not self._scheduler.live_preempts
        return await Generation(self._store.files(job), job.spec, card, walk, report, brief=brief).run()

    async def _compute(self, job: Job, writer: "_StemWriter", window: Window) -> WindowResult:
        spec = job.spec
        audio_CN = await asyncio.to_thread(writer.files.read_input, window.start, window.stop)
        keep = (window.keep_start - window.start, window.keep_stop - window.start)
        settings = SeparationSettings(spec.refiner_steps, spec.noise_seed)
        request = WindowRequest(spec.model, audio_CN, spec.sample_rate_hz, window.start, keep, settings)
        return await self._scheduler.submit(request, owner=job.job_id)


class _OtherBackend(Exception):
    """A window was not computed by what computed the ones before it."""


class _StemWriter:
    """The disk's side of one job: overlap-add, residual, files, hashes, and what is needed to go on after a crash."""

    def __init__(self, files: JobFiles, spec: JobSpec, card: ModelCard) -> None:
        self.files, self._names = files, (*spec.stems, RESIDUAL)
        self._rows = [card.stems.index(stem) for stem in spec.stems]
        own = WindowShape(card.window_samples, card.margin_samples, card.fade_samples)
        self.shape = own.at_rate(card.sample_rate_hz, spec.sample_rate_hz)
        saved = files.load_progress(len(self._names))
        self.windows, self.done_samples = (saved.windows, saved.done_samples) if saved else (0, 0)
        self._computed_by = saved.computed_by if saved else ""
        self._peaks_S = saved.peaks_S if saved else np.zeros(len(self._names), np.float32)
        self._overlap = OverlapAdd(self.shape, spec.num_samples, saved.tail_SCF if saved and saved.windows else None)
        self._digests = [files.hash_stem(name, self.done_samples) for name in self._names]

    def push(self, window: Window, result: WindowResult) -> None:
        """Write what this window finishes; the last thing written makes it count. May be repeated after a crash.

        Raises _OtherBackend.
        """
        before, now = self._computed_by, result.computed_by
        if before and now and before != now:
            raise _OtherBackend(f"{before} computed its first windows, {now} would compute the others")
        self._computed_by = now or before
        start, finished_SCN = self._overlap.push(window, result.stems_SCN[self._rows])
        stop = start + finished_SCN.shape[-1]
        mixture_CN = self.files.read_input(start, stop)
        residual_CN = (mixture_CN.astype(np.float64) - finished_SCN.sum(axis=0, dtype=np.float64)).astype(np.float32)
        for index, audio_CN in enumerate((*finished_SCN, residual_CN)):
            self._digests[index].update(self.files.write_stem(self._names[index], start, audio_CN))
            self._peaks_S[index] = max(self._peaks_S[index], np.abs(audio_CN).max(initial=0))
        tail_SCF = self._overlap.tail_SCF
        assert tail_SCF is not None
        self.windows, self.done_samples = window.index + 1, stop
        self.files.save_progress(
            Progress(
                windows=self.windows,
                done_samples=stop,
                peaks_S=self._peaks_S,
                tail_SCF=tail_SCF,
                computed_by=self._computed_by,
            )
        )

    def finish(self) -> tuple[StemOutput, ...]:
        """Everything is on the disk when this returns."""
        for name in self._names:
            self.files.sync_stem(name)
        return tuple(
            StemOutput(
                stem=name,
                num_bytes=_size(self.files.stem_path(name)),
                sha256=digest.hexdigest(),
                peak=float(peak),
                silent=not peak,
            )
            for name, digest, peak in zip(self._names, self._digests, self._peaks_S, strict=True)
        )


def _size(path: Path) -> int:
    return path.stat().st_size
