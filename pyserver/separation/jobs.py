"""Bounce jobs on disk: everything a job is lies in its own folder, and is true at any moment the power may fail.

jobs/<id>/job.json          what was asked and where it stands; replaced whole
          input.f32         interleaved float32, grows with the upload; its size is what is committed
          progress.npz      finished windows and the unfinished tail of the last one; replaced whole
          stems/<name>.f32  interleaved float32, written in place; only what progress.npz covers counts
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyserver.models.card import ModelCard

RESIDUAL = "residual"


class JobState(enum.Enum):
    """Values are the names in bounce.proto without their prefix."""

    AWAITING_INPUT = "AWAITING_INPUT"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a client asks for. `stems` are stems of the model, in any order, without "residual", not empty."""

    model: str
    refiner_steps: int
    noise_seed: int
    sample_rate_hz: int
    channels: int
    num_samples: int  # frames: samples of one channel
    stems: tuple[str, ...]

    @property
    def frame_bytes(self) -> int:
        return 4 * self.channels

    @property
    def input_bytes(self) -> int:
        return self.num_samples * self.frame_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StemOutput:
    """One finished file; `peak` in full scale, `silent` where every sample is zero."""

    stem: str
    num_bytes: int
    sha256: str
    peak: float
    silent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProblem:
    """Why a job failed, as the StemlineError said it."""

    reason: str
    message: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it stands. `sequence` grows with every change, also across server restarts; times are Unix seconds."""

    job_id: str
    request_id: str
    spec: JobSpec
    weights_sha256: str
    state: JobState
    sequence: int
    created_s: float
    expires_s: float
    committed_bytes: int = 0
    done_samples: int = 0
    elapsed_s: float = 0.0  # computing time so far, over all runs of the server
    outputs: tuple[StemOutput, ...] = field(default=())
    problem: JobProblem | None = None

    @property
    def remaining_s(self) -> float | None:
        """An estimate, once something is done."""
        if not self.done_samples:
            return None
        return self.elapsed_s * (self.spec.num_samples - self.done_samples) / self.done_samples


class JobStore:
    """All jobs under one folder. Blocking calls on the disk, safe from several threads; BounceRunner wraps them."""

    def __init__(self, root: Path, *, retention_s: float = 7 * 86400) -> None:
        raise NotImplementedError

    def create(self, request_id: str, spec: JobSpec, card: ModelCard) -> Job:
        """The job of this request id, made if there is none; one that failed or was cancelled is opened again.

        Raises JobConflict (same id, other spec), JobInvalid, InputEmpty, StemUnknown, DiskFull.
        """
        raise NotImplementedError

    def get(self, job_id: str) -> Job:
        """Raises JobNotFound, JobCorrupted."""
        raise NotImplementedError

    def list_jobs(self, *, after: str = "", limit: int = 100) -> list[Job]:
        """In the order of their ids, from behind `after`; corrupted ones are reported as failed."""
        raise NotImplementedError

    def append_input(self, job_id: str, offset: int, data: bytes) -> Job:
        """Append interleaved float32 samples; the job is QUEUED once its input is whole.

        Raises UploadOutOfOrder, InputNotFinite, JobInvalid (too long, half a sample), JobWrongState, DiskFull.
        """
        raise NotImplementedError

    def read_stem(self, job_id: str, stem: str, offset: int, size: int) -> bytes:
        """Up to `size` bytes of a finished stem (or "residual") from `offset`; empty at its end.

        Raises JobWrongState unless the job SUCCEEDED, StemUnknown.
        """
        raise NotImplementedError

    def delete(self, job_id: str) -> None:
        """Remove a job and all its files. Raises JobNotFound."""
        raise NotImplementedError

    def expire(self, now_s: float) -> list[str]:
        """Delete ended and abandoned jobs whose time is over; gives their ids."""
        raise NotImplementedError
