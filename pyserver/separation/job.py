"""What a job is: values, and how they are kept as JSON."""

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pyserver.errors import StemlineError

RESIDUAL = "residual"
MIX = "mix"

JOB_VERSION = 2
"""Version 1 knows neither `version` nor generations; a separation is still written as version 1."""


class JobKind(enum.Enum):
    SEPARATE = "separate"
    GENERATE = "generate"


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
    """What a client asks for. `stems` are stems of the model, without "residual"; none means all.

    A generation has for input the stems that are `known`, one after the other in each frame, and its `stems` are those
    to be written, of the ones that are not. Its steps are those of the walk.
    """

    model: str
    refiner_steps: int
    noise_seed: int
    sample_rate_hz: int
    channels: int
    num_samples: int  # frames: samples of one channel
    stems: tuple[str, ...]
    kind: JobKind = JobKind.SEPARATE
    known: tuple[str, ...] = ()

    @property
    def input_channels(self) -> int:
        return self.channels if self.kind is JobKind.SEPARATE else self.channels * len(self.known)

    @property
    def input_bytes(self) -> int:
        return 4 * self.num_samples * self.input_channels

    @property
    def outputs(self) -> tuple[str, ...]:
        """The files that are made: a separation adds what is left, a piece from nothing the sum of its stems."""
        if self.kind is JobKind.SEPARATE:
            return (*self.stems, RESIDUAL)
        return self.stems if self.known else (*self.stems, MIX)

    @property
    def output_bytes(self) -> int:
        """Of all of them together."""
        return 4 * self.num_samples * self.channels * len(self.outputs)

    @property
    def work_bytes(self) -> int:
        """About what a generation needs besides until it has ended: what is known, and all stems, in mono."""
        return 0 if self.kind is JobKind.SEPARATE else 4 * self.num_samples * (2 * len(self.known) + len(self.stems))


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

    @classmethod
    def of(cls, error: StemlineError) -> "JobProblem":
        return cls(reason=error.reason, message=str(error), metadata=error.metadata)


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

    def to_json(self) -> str:
        raw = {**asdict(self), "state": self.state.value}
        if self.spec.kind is JobKind.SEPARATE:
            del raw["spec"]["kind"], raw["spec"]["known"]
        else:
            raw = {"version": JOB_VERSION, **raw}
            raw["spec"]["kind"] = self.spec.kind.value
        return json.dumps(raw, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Raises ValueError, TypeError or KeyError for anything that is no job, or one of a later version."""
        raw = json.loads(text)
        version = raw.pop("version", 1)
        if version > JOB_VERSION:
            raise ValueError(f"version {version}, this Stemline knows up to {JOB_VERSION}")
        given = {"kind": "separate", "known": (), **raw["spec"]}
        given |= {"kind": JobKind(given["kind"])} | {key: tuple(given[key]) for key in ("stems", "known")}
        spec = JobSpec(**given)
        problem = raw["problem"] and JobProblem(**raw["problem"])
        outputs = tuple(StemOutput(**output) for output in raw["outputs"])
        state = JobState(raw["state"])
        return cls(**{**raw, "spec": spec, "state": state, "outputs": outputs, "problem": problem})
