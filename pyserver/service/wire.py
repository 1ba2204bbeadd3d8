"""Between protobuf messages and our own values. Checks what only the wire can get wrong."""

import numpy as np
from google.protobuf import duration_pb2, timestamp_pb2
from stems.v1 import audio_pb2, bounce_pb2

from pyserver.engine.messages import Audio, SeparationSettings
from pyserver.models.card import ModelCard
from pyserver.separation.errors import InputNotFinite
from pyserver.separation.jobs import Job
from pyserver.service.errors import InvalidRequest

MAX_REFINER_STEPS = 1000
MIN_RATE_HZ, MAX_RATE_HZ = 4000, 768_000
MAX_CHANNELS = 64


def duration(seconds: float) -> duration_pb2.Duration:
    message = duration_pb2.Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def default_steps(card: ModelCard) -> int:
    return card.default_steps


def settings(quality: audio_pb2.Quality, card: ModelCard) -> SeparationSettings:
    """The settings as applied: the model's own where the client says nothing, 0 steps without a refiner."""
    asked = quality.refiner_steps if quality.HasField("refiner_steps") else None
    if asked is not None and asked > MAX_REFINER_STEPS:
        raise InvalidRequest(f"quality.refiner_steps is {asked}; at most {MAX_REFINER_STEPS} make sense", steps=asked)
    return SeparationSettings(card.steps_for(asked), quality.noise_seed)


def generation_steps(asked: int | None, card: ModelCard) -> int:
    """The steps as they will be made: the model's own where the client says nothing."""
    if asked is not None and asked > MAX_REFINER_STEPS:
        raise InvalidRequest(f"steps is {asked}; at most {MAX_REFINER_STEPS} make sense", steps=asked)
    return card.generation_steps_for(asked)


def quality(applied: SeparationSettings) -> audio_pb2.Quality:
    return audio_pb2.Quality(refiner_steps=applied.refiner_steps, noise_seed=applied.noise_seed)


def check_audio(spec: audio_pb2.AudioSpec) -> None:
    """Raises InvalidRequest for audio that nobody has."""
    if spec.format not in (audio_pb2.SAMPLE_FORMAT_UNSPECIFIED, audio_pb2.SAMPLE_FORMAT_F32_LE):
        raise InvalidRequest("audio.format: this server takes SAMPLE_FORMAT_F32_LE")
    if not MIN_RATE_HZ <= spec.sample_rate_hz <= MAX_RATE_HZ:
        raise InvalidRequest(
            f"audio.sample_rate_hz is {spec.sample_rate_hz}; from {MIN_RATE_HZ} to {MAX_RATE_HZ} is possible"
        )
    if not 1 <= spec.channels <= MAX_CHANNELS:
        raise InvalidRequest(f"audio.channels is {spec.channels}; from 1 to {MAX_CHANNELS} is possible")


def block_audio(block: audio_pb2.Block, channels: int) -> Audio:
    """The samples of a block, shape (channels, samples)."""
    expected = 4 * channels * block.num_samples
    if len(block.samples) != expected:
        raise InvalidRequest(
            f"a block of {block.num_samples} samples in {channels} channels has {expected} bytes, not "
            f"{len(block.samples)}",
            start_sample=block.start_sample,
        )
    audio_CN = np.frombuffer(block.samples, dtype="<f4").reshape(channels, block.num_samples)
    if not np.isfinite(audio_CN).all():
        raise InputNotFinite(
            f"the block at sample {block.start_sample} holds NaN or Inf: something before Stemline is broken",
            start_sample=block.start_sample,
        )
    return audio_CN.astype(np.float32, copy=False)


def stem_blocks(stems_SCN: Audio, start_sample: int) -> list[audio_pb2.StemBlock]:
    """One planar block a stem."""
    return [
        audio_pb2.StemBlock(
            stem_index=index,
            block=audio_pb2.Block(
                start_sample=start_sample,
                num_samples=stem_CN.shape[1],
                samples=stem_CN.astype("<f4", copy=False).tobytes(),
            ),
        )
        for index, stem_CN in enumerate(stems_SCN)
    ]


def job(job: Job) -> bounce_pb2.Job:
    """A job as clients see it."""
    progress = bounce_pb2.Progress(
        done_samples=job.done_samples, total_samples=job.spec.num_samples, elapsed=duration(job.elapsed_s)
    )
    if job.remaining_s is not None:
        progress.remaining.CopyFrom(duration(job.remaining_s))
    outputs = [
        bounce_pb2.StemFile(stem=o.stem, bytes=o.num_bytes, sha256=o.sha256, peak=o.peak, silent=o.silent)
        for o in job.outputs
    ]
    message = bounce_pb2.Job(
        job_id=job.job_id,
        state=bounce_pb2.JobState.Value(f"JOB_STATE_{job.state.value}"),
        progress=progress,
        outputs=outputs,
        create_time=timestamp(job.created_s),
        expire_time=timestamp(job.expires_s),
        committed_bytes=job.committed_bytes,
        model=job.spec.model,
        weights_sha256=job.weights_sha256,
        stems=job.spec.stems,
        known=job.spec.known,
    )
    if job.problem is not None:
        problem = bounce_pb2.JobError(reason=job.problem.reason, message=job.problem.message)
        problem.metadata.update(job.problem.metadata)
        message.error.CopyFrom(problem)
    return message
