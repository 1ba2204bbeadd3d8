"""Jobs on disk: everything a job is lies in its own folder, and is true whenever the server is killed.

jobs/<id>/job.json          what was asked and where it stands; replaced whole
          input.f32         interleaved float32, grows with the upload; its size is what is committed
          progress.npz      finished windows and the unfinished tail of the last one; replaced whole
          stems/<name>.f32  interleaved float32, written in place; only what progress.npz covers counts
          work/<name>.f32   of a generation under way: the piece as the model makes it
"""

import contextlib
import hashlib
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from pyserver.engine.errors import ModelCannot
from pyserver.errors import DiskFull
from pyserver.models.card import ModelCard
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
from pyserver.separation.job import MIX, RESIDUAL, Job, JobKind, JobProblem, JobSpec, JobState, StemOutput
from pyserver.separation.job_files import JobFiles, disk_errors, free_bytes, replace_file

__all__ = ["MIX", "RESIDUAL", "Job", "JobKind", "JobProblem", "JobSpec", "JobState", "JobStore", "StemOutput"]

log = logging.getLogger(__name__)

_SLACK_BYTES = 1 << 20  # job.json, progress.npz and their new versions
_MAX_CHANNELS = 64
_RATES_HZ = range(1000, 1_000_001)
_MAX_STEPS = 1000
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]*")
_JOB_ID = re.compile(r"[0-9a-f]{32}")


class JobStore:
    """All jobs under one folder, which is this process's alone. Blocking calls, safe from several threads."""

    def __init__(self, root: Path, *, retention_s: float = 7 * 86400) -> None:
        """Raises StateInUse if another process has the folder."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root, self._retention_s = root, retention_s
        self._owned = _own(root / "lock")
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}

    def close(self) -> None:
        """Let another process have the folder."""
        if self._owned:
            self._owned.close()
            self._owned = None

    def create(self, request_id: str, spec: JobSpec, card: ModelCard) -> Job:
        """The job of this request id, made if there is none; one that failed or was cancelled is opened again.

        It is QUEUED at once if it needs no input.
        Raises JobConflict (same id, other spec), JobInvalid, InputEmpty, StemUnknown, ModelCannot, DiskFull.
        """
        spec = checked(spec, card)
        job_id = hashlib.sha256(b"stemline job " + request_id.encode()).hexdigest()[:32]
        with self._lock:
            try:
                return self._reopened(self.get(job_id), spec)
            except JobNotFound:
                pass
            except JobCorrupted as error:
                log.warning("job %s is replaced: %s", job_id, error)
                self.delete(job_id)
            self._check_space(spec)
            now = time.time()
            job = Job(
                job_id=job_id,
                request_id=request_id,
                spec=spec,
                weights_sha256=card.weights_sha256,
                state=JobState.AWAITING_INPUT if spec.input_bytes else JobState.QUEUED,
                sequence=1,
                created_s=now,
                expires_s=now + self._retention_s,
            )
            with disk_errors(self._directory(job_id), _SLACK_BYTES):
                self._directory(job_id).mkdir(mode=0o700, exist_ok=True)
            return self._save(job)

    def get(self, job_id: str) -> Job:
        """Raises JobNotFound, JobCorrupted."""
        with self._lock:
            job = self._jobs.get(job_id) or self._read(job_id)
            self._jobs[job_id] = job
            return replace(job, committed_bytes=self.files(job).committed_bytes)

    def list_jobs(self, *, after: str = "", limit: int = 100) -> list[Job]:
        """In the order of their ids, from behind `after`; corrupted ones are reported as failed."""
        with self._lock:
            ids = [job_id for job_id in self._ids() if job_id > after][:limit]
            return [self._get_or_corrupted(job_id) for job_id in ids]

    def update(self, job_id: str, **changes: Any) -> Job:
        """Change fields of a job; its `sequence` grows by one. Raises JobNotFound, DiskFull."""
        with self._lock:
            job = self.get(job_id)
            expires_s = time.time() + self._retention_s
            return self._save(replace(job, sequence=job.sequence + 1, expires_s=expires_s, **changes))

    def append_input(self, job_id: str, offset: int, data: bytes) -> Job:
        """Append interleaved float32 samples; the job is QUEUED once its input is whole.

        Raises UploadOutOfOrder, InputNotFinite, JobInvalid (too long, half a sample), JobWrongState, DiskFull.
        """
        with self._lock:
            job = self.get(job_id)
            if job.state is not JobState.AWAITING_INPUT:
                raise JobWrongState(f"job {job_id} takes no input: it is {job.state.value}", state=job.state.value)
            committed, files = job.committed_bytes, self.files(job)
            if offset != committed:
                raise UploadOutOfOrder(
                    f"the input goes on at byte {committed}, not {offset}", committed_bytes=committed, offset=offset
                )
            if len(data) % 4 or committed + len(data) > job.spec.input_bytes:
                raise JobInvalid(
                    f"{len(data)} bytes at {offset} are not whole samples of an input of {job.spec.input_bytes} bytes"
                )
            check_finite(data, offset // 4, job.spec.input_channels)
            files.append_input(offset, data)
            if committed + len(data) == job.spec.input_bytes:
                files.sync_input()
                return self.update(job_id, state=JobState.QUEUED)
            return replace(job, committed_bytes=committed + len(data))

    def read_stem(self, job_id: str, stem: str, offset: int, size: int) -> bytes:
        """Up to `size` bytes of a finished stem (or "residual") from `offset`; empty at its end.

        Raises JobWrongState unless the job SUCCEEDED, StemUnknown, JobCorrupted.
        """
        job = self.get(job_id)
        if job.state is not JobState.SUCCEEDED:
            raise JobWrongState(f"job {job_id} has no stems yet: it is {job.state.value}", state=job.state.value)
        known = [output.stem for output in job.outputs]
        if stem not in known:
            raise StemUnknown(f'job {job_id} has no stem "{stem}", only {", ".join(known)}', stem=stem)
        try:
            with self.files(job).stem_path(stem).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise JobCorrupted(f"stem {stem} of job {job_id} cannot be read: {error}", job_id=job_id) from error

    def delete(self, job_id: str) -> None:
        """Remove a job and all its files. Raises JobNotFound."""
        with self._lock:
            directory = self._directory(job_id)
            if not directory.is_dir():
                raise _not_found(job_id)
            self._jobs.pop(job_id, None)
            # Renamed first: if this process is killed now, what is left is no longer a job.
            gone = self._root / f"deleted-{job_id}"
            shutil.rmtree(gone, ignore_errors=True)
            directory.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def expire(self, now_s: float) -> list[str]:
        """Delete ended and abandoned jobs whose time is over, and remains of deleted ones; gives the jobs' ids."""
        with self._lock:
            for remains in self._root.glob("deleted-*"):
                shutil.rmtree(remains, ignore_errors=True)
            idle = {JobState.AWAITING_INPUT, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
            jobs = [self._get_or_corrupted(job_id) for job_id in self._ids()]
            expired = [job.job_id for job in jobs if job.state in idle and job.expires_s <= now_s]
            for job_id in expired:
                self.delete(job_id)
            return expired

    def files(self, job: Job) -> JobFiles:
        spec = job.spec
        return JobFiles(self._directory(job.job_id), spec.channels, spec.num_samples, spec.input_channels)

    def _directory(self, job_id: str) -> Path:
        if not _JOB_ID.fullmatch(job_id):
            raise _not_found(job_id)
        return self._root / job_id

    def _ids(self) -> list[str]:
        return sorted(path.name for path in self._root.iterdir() if _JOB_ID.fullmatch(path.name))

    def _read(self, job_id: str) -> Job:
        directory = self._directory(job_id)
        try:
            return Job.from_json((directory / "job.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            if not directory.is_dir():
                raise _not_found(job_id) from None
            raise JobCorrupted(f"{directory} holds no job.json; delete the job", job_id=job_id) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise JobCorrupted(
                f"{directory / 'job.json'} cannot be read ({error}); delete the job", job_id=job_id
            ) from error

    def _get_or_corrupted(self, job_id: str) -> Job:
        try:
            return self.get(job_id)
        except JobCorrupted as error:
            changed_s = self._directory(job_id).stat().st_mtime
            return Job(
                job_id=job_id,
                request_id="",
                spec=JobSpec(
                    model="", refiner_steps=0, noise_seed=0, sample_rate_hz=1, channels=1, num_samples=0, stems=()
                ),
                weights_sha256="",
                state=JobState.FAILED,
                sequence=1,
                created_s=changed_s,
                expires_s=changed_s + self._retention_s,
                problem=JobProblem.of(error),
            )

    def _save(self, job: Job) -> Job:
        """Memory first: if the disk is full, this server at least knows where the job stands."""
        self._jobs[job.job_id] = job
        replace_file(self._directory(job.job_id) / "job.json", job.to_json().encode())
        return job

    def _reopened(self, job: Job, spec: JobSpec) -> Job:
        if job.spec != spec:
            raise JobConflict(
                f'request id "{job.request_id}" belongs to a job with other settings', request_id=job.request_id
            )
        lost = job.state is JobState.SUCCEEDED and not self._outputs_present(job)
        if lost:
            self.files(job).forget_progress()
            job = self.update(job.job_id, done_samples=0, elapsed_s=0.0)
        if lost or job.state in (JobState.FAILED, JobState.CANCELLED):
            self._check_space(spec, already=self.files(job).disk_bytes)
            whole = job.committed_bytes == spec.input_bytes
            state = JobState.QUEUED if whole else JobState.AWAITING_INPUT
            return self.update(job.job_id, state=state, outputs=(), problem=None)
        return job

    def _outputs_present(self, job: Job) -> bool:
        paths = {self.files(job).stem_path(output.stem): output.num_bytes for output in job.outputs}
        return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())

    def _check_space(self, spec: JobSpec, already: int = 0) -> None:
        """Refuse now what could only fail later, counting what other unfinished jobs are still going to write."""
        need, free = max(0, _needed_bytes(spec) - already), free_bytes(self._root)
        promised = sum(self._still_to_write())
        if need + promised > free:
            raise DiskFull(
                f"this job needs {need:,} bytes in {self._root}, other jobs will need {promised:,}, {free:,} are free; "
                "free some space, or delete old jobs",
                path=self._root,
                need_bytes=need + promised,
                free_bytes=free,
            )

    def _still_to_write(self) -> Iterator[int]:
        for job in map(self._get_or_corrupted, self._ids()):
            if not job.state.ended:
                yield max(0, _needed_bytes(job.spec) - self.files(job).disk_bytes)


def checked(spec: JobSpec, card: ModelCard) -> JobSpec:
    """`spec` with its stems in the model's order; none named means all that there are to be made.

    Raises JobInvalid, InputEmpty, StemUnknown, ModelCannot.
    """
    _require_ability(spec, card)
    if spec.num_samples == 0:
        raise InputEmpty("the input has no samples")
    if spec.sample_rate_hz not in _RATES_HZ or not 0 < spec.channels <= _MAX_CHANNELS or spec.num_samples < 0:
        raise JobInvalid(
            f"{spec.channels} channels at {spec.sample_rate_hz} Hz cannot be had; possible are 1 to "
            f"{_MAX_CHANNELS} channels at {_RATES_HZ[0]} to {_RATES_HZ[-1]} Hz"
        )
    _require_steps(spec, card)
    reserved = RESIDUAL if spec.kind is JobKind.SEPARATE else MIX
    unsafe = [stem for stem in card.stems if not _SAFE_NAME.fullmatch(stem) or stem == reserved]
    if unsafe:
        raise JobInvalid(f'model {card.name} has a stem called "{unsafe[0]}", which cannot be a file of its own')
    for stem in (*spec.stems, *spec.known):
        if stem not in card.stems:
            raise StemUnknown(f'model {card.name} has no stem "{stem}", only {", ".join(card.stems)}', stem=stem)
    twice = [stem for stem in card.stems if spec.known.count(stem) > 1]
    if twice:
        raise JobInvalid(f'stem "{twice[0]}" is given twice')
    both = [stem for stem in spec.stems if stem in spec.known]
    if both:
        raise JobInvalid(f'stem "{both[0]}" is given, so it cannot be asked for as well')
    wanted = spec.stems or tuple(stem for stem in card.stems if stem not in spec.known)
    if not wanted:
        raise JobInvalid(f"all stems of model {card.name} are given, so there is nothing to be made")
    return replace(spec, stems=tuple(stem for stem in card.stems if stem in wanted))


def _require_ability(spec: JobSpec, card: ModelCard) -> None:
    ability = "accompany" if spec.known else spec.kind.value
    if ability not in card.abilities:
        raise ModelCannot(card.name, ability, card.abilities)


def _require_steps(spec: JobSpec, card: ModelCard) -> None:
    applied, kind = (
        (card.steps_for, "refiner steps") if spec.kind is JobKind.SEPARATE else (card.generation_steps_for, "steps")
    )
    if not 0 <= spec.refiner_steps <= _MAX_STEPS or applied(spec.refiner_steps) != spec.refiner_steps:
        least, most = applied(0), applied(_MAX_STEPS)
        raise JobInvalid(f"{spec.refiner_steps} {kind}: model {card.name} can do {least} to {most}")


def check_finite(data: bytes, first_sample: int, channels: int) -> None:
    """Raises InputNotFinite with the place of the first NaN or Inf in interleaved float32 samples."""
    finite = np.isfinite(np.frombuffer(data, "<f4"))
    if not finite.all():
        frame, channel = divmod(first_sample + int(np.argmin(finite)), channels)
        raise InputNotFinite(
            f"the input holds NaN or Inf at sample {frame} of channel {channel}", frame=frame, channel=channel
        )


def _needed_bytes(spec: JobSpec) -> int:
    return spec.input_bytes + spec.output_bytes + spec.work_bytes + _SLACK_BYTES


def _not_found(job_id: str) -> JobNotFound:
    return JobNotFound(f'there is no job "{job_id}"; it may have been deleted or have expired', job_id=job_id)


def _own(path: Path) -> IO[bytes] | None:
    """Two servers on one store would run every job twice. The lock ends with this process, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    with contextlib.ExitStack() as undo:
        file = undo.enter_context(path.open("wb"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUse(f"another server uses {path.parent}; stop it, or set STEMLINE_HOME", path=path) from None
        undo.pop_all()
    return file
