"""What any client of a running server may rely on, over real gRPC to a real process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import google_crc32c
import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from service_support import (
    RATE,
    RunningServer,
    ended,
    job_request,
    read_stem,
    song,
    stems_of,
    submit,
    upload_messages,
)
from stems.v1 import audio_pb2, bounce_pb2, live_pb2, models_pb2, server_pb2

from pyserver.service.channel import (
    Connection,
    UntrustedServer,
    call_error,
    connect,
    error_info,
    open_channel,
)

OUTPUTS = ["bass", "drums", "guitar", "piano", "other", "residual"]


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Connection]:
    async with await connect(server.target) as connection:
        yield connection


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """The code, reason and metadata with which a call fails; every error of ours carries them."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    info = error_info(caught.value)
    assert info is not None, caught.value
    return caught.value.code(), info.reason, dict(info.metadata)


async def all_of(stream: AsyncIterator[object]) -> list[object]:
    return [item async for item in stream]


async def no_messages() -> AsyncIterator[object]:
    await asyncio.sleep(60)
    yield bounce_pb2.UploadRequest()


def test_ready_line_says_where_what_and_with_which_model(server: RunningServer) -> None:
    assert str(server.record["address"]) in server.ready_line
    assert "cpu" in server.ready_line
    assert "stemline-small" in server.ready_line
    assert server.record["pid"] == server.process.pid


async def test_info_names_the_device_that_is_really_active(client: Connection) -> None:
    device, *others = client.info.devices  # those of a machine with GPUs
    assert device.active
    assert not any(other.active or "cpu" in other.backend for other in others)
    assert "cpu" in device.backend
    assert device.total_bytes > device.free_bytes > 0
    assert client.info.engine_pid > 0
    assert client.info.max_message_bytes == 4 * 2**20
    assert client.info.default_model == "stemline-small"


async def test_server_without_our_token_is_not_trusted(server: RunningServer) -> None:
    with pytest.raises(UntrustedServer):
        await connect(replace(server.target, token="another token"))


@pytest.mark.parametrize("challenge", [b"short", b"x" * 65])
async def test_bad_challenge_is_refused(client: Connection, challenge: bytes) -> None:
    call = client.server.GetInfo(server_pb2.GetInfoRequest(challenge=challenge))
    assert (await refused(call))[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


Calls = Callable[[Connection], list[Awaitable[object]]]


def every_kind_of_call(client: Connection) -> list[Awaitable[object]]:
    return [
        client.models.ListModels(models_pb2.ListModelsRequest()),
        all_of(client.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id="x"))),
        client.bounce.UploadInput(no_messages()),
        all_of(client.live.Separate(no_messages())),
    ]


async def test_wrong_token_is_refused_by_every_kind_of_call(server: RunningServer, client: Connection) -> None:
    target = replace(server.target, token="wrong")
    async with Connection(open_channel(target), client.info, target) as stranger:
        for call in every_kind_of_call(stranger):
            assert (await refused(call))[:2] == (grpc.StatusCode.UNAUTHENTICATED, "WRONG_TOKEN")


async def test_missing_token_is_refused_by_every_kind_of_call(server: RunningServer, client: Connection) -> None:
    channel = open_channel(server.target, with_token=False)
    async with Connection(channel, client.info, server.target) as stranger:
        for call in every_kind_of_call(stranger):
            assert (await refused(call))[:2] == (grpc.StatusCode.UNAUTHENTICATED, "MISSING_TOKEN")


async def test_health_and_reflection_need_no_token(server: RunningServer) -> None:
    async with open_channel(server.target, with_token=False) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "stems.v1.LiveService", "stems.v1.BounceService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = await all_of(reflection.ServerReflectionInfo(iter([request])))
        names = {service.name for service in answer.list_services_response.service}
    ours = {f"stems.v1.{name}Service" for name in ("Live", "Bounce", "Model", "Server")}
    assert ours | {"grpc.health.v1.Health"} <= names


async def test_unknown_jobs_are_not_found_whatever_is_asked(client: Connection) -> None:
    calls = [
        client.bounce.GetJob(bounce_pb2.GetJobRequest(job_id="nope")),
        client.bounce.CancelJob(bounce_pb2.CancelJobRequest(job_id="nope")),
        client.bounce.DeleteJob(bounce_pb2.DeleteJobRequest(job_id="../../etc")),
        client.bounce.UploadInput(upload_messages("nope", b"")),
        all_of(client.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id="nope"))),
        all_of(client.bounce.ReadStem(bounce_pb2.ReadStemRequest(job_id="../../..", stem="bass"))),
    ]
    for call in calls:
        assert (await refused(call))[:2] == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")


async def test_unknown_model_is_refused_with_the_nearest_name(client: Connection) -> None:
    code, reason, metadata = await refused(client.bounce.CreateJob(job_request(song(0.1), model="tiny-tow")))
    assert (code, reason, metadata["nearest"]) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL", "tiny-two")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"request_id": ""}, "INVALID_REQUEST"),
        ({"audio": audio_pb2.AudioSpec(sample_rate_hz=0, channels=2)}, "INVALID_REQUEST"),
        ({"audio": audio_pb2.AudioSpec(sample_rate_hz=RATE, channels=0)}, "INVALID_REQUEST"),
        ({"quality": audio_pb2.Quality(refiner_steps=10_000)}, "INVALID_REQUEST"),
        ({"num_samples": 0}, "INPUT_EMPTY"),
        ({"stems": ["kazoo"]}, "STEM_UNKNOWN"),
    ],
)
async def test_nonsense_jobs_are_refused(client: Connection, changes: dict[str, object], reason: str) -> None:
    call = client.bounce.CreateJob(job_request(song(0.1), **changes))
    assert (await refused(call))[:2] == (grpc.StatusCode.INVALID_ARGUMENT, reason)


async def test_message_above_the_limit_is_named_as_such(client: Connection) -> None:
    job = await client.bounce.CreateJob(job_request(song(60.0)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.bounce.UploadInput(upload_messages(job.job_id, bytes(5 * 2**20), chunk_bytes=5 * 2**20))
    error = call_error(caught.value)
    assert error.reason == "MESSAGE_TOO_LARGE"
    assert "4 MiB" in str(error)
    still_there = await client.bounce.GetJob(bounce_pb2.GetJobRequest(job_id=job.job_id))
    assert still_there.committed_bytes == 0


async def test_stems_and_residual_sum_to_the_song(client: Connection) -> None:
    song_NC = song(2.3)
    job = await ended(client, (await submit(client, song_NC)).job_id)
    assert job.state == bounce_pb2.JOB_STATE_SUCCEEDED, job.error
    stems = await stems_of(client, job)
    assert list(stems) == OUTPUTS
    total = sum(np.frombuffer(data, np.float32).astype(np.float64) for data in stems.values())
    assert np.abs(total - song_NC.reshape(-1)).max() <= 1e-6
    assert job.progress.done_samples == job.progress.total_samples == len(song_NC)
    assert any(output.peak > 0 for output in job.outputs)


async def test_residual_is_the_song_without_the_stems_asked_for(client: Connection) -> None:
    song_NC = song(1.0)
    job = await ended(client, (await submit(client, song_NC, stems=["piano"])).job_id)
    stems = await stems_of(client, job)
    assert list(stems) == ["piano", "residual"]
    total = sum(np.frombuffer(data, np.float32).astype(np.float64) for data in stems.values())
    assert np.abs(total - song_NC.reshape(-1)).max() <= 1e-6


async def test_silence_gives_silence(client: Connection) -> None:
    job = await ended(client, (await submit(client, np.zeros((RATE, 2), np.float32))).job_id)
    assert job.state == bounce_pb2.JOB_STATE_SUCCEEDED
    assert all(output.silent and output.peak == 0 for output in job.outputs)


async def test_nan_is_refused_with_its_place(client: Connection) -> None:
    song_NC = song(0.5)
    song_NC[1234, 1] = np.nan
    job = await client.bounce.CreateJob(job_request(song_NC))
    upload = client.bounce.UploadInput(upload_messages(job.job_id, song_NC.tobytes()))
    code, reason, metadata = await refused(upload)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_NOT_FINITE")
    assert (metadata["frame"], metadata["channel"]) == ("1234", "1")


async def test_damaged_chunk_is_refused_and_the_upload_goes_on_from_what_was_kept(client: Connection) -> None:
    song_NC = song(1.0)
    data, half = song_NC.tobytes(), 176_000
    job = await client.bounce.CreateJob(job_request(song_NC))

    async def damaged() -> AsyncIterator[bounce_pb2.UploadRequest]:
        yield bounce_pb2.UploadRequest(job_id=job.job_id)
        good = bounce_pb2.UploadChunk(offset=0, data=data[:half], crc32c=google_crc32c.value(data[:half]))
        yield bounce_pb2.UploadRequest(chunk=good)
        bad = bounce_pb2.UploadChunk(offset=half, data=data[half:-1] + b"\0", crc32c=google_crc32c.value(data[half:]))
        yield bounce_pb2.UploadRequest(chunk=bad)

    code, reason, metadata = await refused(client.bounce.UploadInput(damaged()))
    assert (code, reason, metadata["committed_bytes"]) == (grpc.StatusCode.DATA_LOSS, "UPLOAD_CORRUPTED", str(half))
    assert (await client.bounce.GetJob(bounce_pb2.GetJobRequest(job_id=job.job_id))).committed_bytes == half
    status = await client.bounce.UploadInput(upload_messages(job.job_id, data, start=half))
    assert status.committed_bytes == len(data)
    whole = await ended(client, (await submit(client, song_NC)).job_id)
    resumed = await ended(client, job.job_id)
    assert [o.sha256 for o in resumed.outputs] == [o.sha256 for o in whole.outputs]


async def test_chunk_at_the_wrong_place_is_refused_with_the_right_one(client: Connection) -> None:
    song_NC = song(0.2)
    job = await client.bounce.CreateJob(job_request(song_NC))
    upload = client.bounce.UploadInput(upload_messages(job.job_id, song_NC.tobytes(), start=800))
    code, reason, metadata = await refused(upload)
    assert (code, reason) == (grpc.StatusCode.OUT_OF_RANGE, "UPLOAD_OUT_OF_ORDER")
    assert metadata["committed_bytes"] == "0"


async def test_upload_must_begin_with_the_job(client: Connection) -> None:
    upload = client.bounce.UploadInput(iter([bounce_pb2.UploadRequest(chunk=bounce_pb2.UploadChunk())]))
    assert (await refused(upload))[1] == "INVALID_REQUEST"


async def test_creating_a_job_again_gives_the_same_one(client: Connection) -> None:
    request = job_request(song(0.1))
    first, again = [await client.bounce.CreateJob(request) for _ in range(2)]
    assert first.job_id == again.job_id
    request.quality.noise_seed += 1
    assert (await refused(client.bounce.CreateJob(request)))[:2] == (
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
    )


async def test_watching_replays_what_was_missed_and_ends_with_the_job(client: Connection) -> None:
    job = await client.bounce.CreateJob(job_request(song_NC := song(2.0)))
    watch = client.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job.job_id))
    first = await watch.read()
    assert first.job.state == bounce_pb2.JOB_STATE_AWAITING_INPUT
    await client.bounce.UploadInput(upload_messages(job.job_id, song_NC.tobytes()))
    events = [first, *[event async for event in watch]]
    numbers = [event.sequence for event in events]
    assert numbers == sorted(set(numbers))
    done = [event.job.progress.done_samples for event in events]
    assert done == sorted(done)
    assert events[-1].job.state == bounce_pb2.JOB_STATE_SUCCEEDED
    later = bounce_pb2.WatchJobRequest(job_id=job.job_id, after_event=numbers[0])
    assert [event.sequence for event in await all_of(client.bounce.WatchJob(later))] == [numbers[-1]]
    seen_all = bounce_pb2.WatchJobRequest(job_id=job.job_id, after_event=numbers[-1])
    assert await all_of(client.bounce.WatchJob(seen_all)) == []


async def test_download_goes_on_from_any_offset(client: Connection) -> None:
    job = await ended(client, (await submit(client, song(1.0))).job_id)
    whole = await read_stem(client, job.job_id, "bass")
    assert await read_stem(client, job.job_id, "bass", offset=100_001, chunk_bytes=4099) == whole[100_001:]
    assert await read_stem(client, job.job_id, "bass", offset=len(whole)) == b""
    unknown = client.bounce.ReadStem(bounce_pb2.ReadStemRequest(job_id=job.job_id, stem="../input.f32"))
    assert (await refused(all_of(unknown)))[1] == "STEM_UNKNOWN"


async def test_stems_cannot_be_read_before_the_job_has_succeeded(client: Connection) -> None:
    job = await client.bounce.CreateJob(job_request(song(0.1)))
    early = client.bounce.ReadStem(bounce_pb2.ReadStemRequest(job_id=job.job_id, stem="bass"))
    code, reason, _ = await refused(all_of(early))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "JOB_WRONG_STATE")


async def test_listing_goes_page_by_page_through_every_job_once(client: Connection) -> None:
    made = {(await client.bounce.CreateJob(job_request(song(0.1)))).job_id for _ in range(5)}
    listed: list[str] = []
    token = ""
    while True:
        page = await client.bounce.ListJobs(bounce_pb2.ListJobsRequest(page_size=2, page_token=token))
        assert len(page.jobs) <= 2
        listed += [job.job_id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert len(listed) == len(set(listed))
    assert made <= set(listed)


async def test_cancelled_job_ends_at_once_and_can_be_deleted(client: Connection) -> None:
    job = await submit(client, song(60.0))
    cancelled = await client.bounce.CancelJob(bounce_pb2.CancelJobRequest(job_id=job.job_id))
    assert cancelled.state == bounce_pb2.JOB_STATE_CANCELLED
    assert (await asyncio.wait_for(ended(client, job.job_id), 10)).state == bounce_pb2.JOB_STATE_CANCELLED
    await client.bounce.DeleteJob(bounce_pb2.DeleteJobRequest(job_id=job.job_id))
    call = client.bounce.GetJob(bounce_pb2.GetJobRequest(job_id=job.job_id))
    assert (await refused(call))[1] == "JOB_NOT_FOUND"


async def test_models_are_listed_loaded_and_unloaded(client: Connection) -> None:
    listed = await client.models.ListModels(models_pb2.ListModelsRequest())
    models = {model.name: model for model in listed.models}
    assert models["stemline-small"].state == models_pb2.Model.STATE_READY
    assert models["tiny-two"].native.sample_rate_hz == RATE
    assert models["dicose-unet"].state == models_pb2.Model.STATE_NOT_DOWNLOADED
    events = await all_of(client.models.LoadModel(models_pb2.LoadModelRequest(name="tiny-two")))
    stages = [event.stage for event in events]
    kinds = models_pb2.LoadEvent
    assert stages == [kinds.STAGE_VERIFY, kinds.STAGE_LOAD, kinds.STAGE_WARM, kinds.STAGE_DONE]
    assert events[-1].model.state == models_pb2.Model.STATE_READY
    assert events[-1].model.measured_realtime_factor > 0
    unloaded = await client.models.UnloadModel(models_pb2.UnloadModelRequest(name="tiny-two"))
    assert unloaded.state == models_pb2.Model.STATE_AVAILABLE


async def test_two_models_give_different_stems(client: Connection) -> None:
    song_NC = song(0.5)
    one, two = [await ended(client, (await submit(client, song_NC, model=m)).job_id) for m in ("", "tiny-two")]
    assert (one.model, two.model) == ("stemline-small", "tiny-two")
    assert one.outputs[0].sha256 != two.outputs[0].sha256


async def test_largest_numbers_of_the_wire_are_taken_or_refused(client: Connection) -> None:
    quality = audio_pb2.Quality(noise_seed=2**64 - 1)
    job = await ended(client, (await submit(client, song(0.2, channels=6), quality=quality)).job_id)
    assert job.state == bounce_pb2.JOB_STATE_SUCCEEDED, job.error
    request = bounce_pb2.ReadStemRequest(job_id=job.job_id, stem="bass", offset=2**64 - 1, chunk_bytes=2**32 - 1)
    assert (await refused(all_of(client.bounce.ReadStem(request))))[1] == "INVALID_REQUEST"
    call = client.bounce.CreateJob(job_request(song(0.1), num_samples=2**64 - 1))
    assert (await refused(call))[1] in ("JOB_INVALID", "DISK_FULL")
    listed = await client.bounce.ListJobs(bounce_pb2.ListJobsRequest(page_size=2**32 - 1))
    assert job.job_id in {listed_job.job_id for listed_job in listed.jobs}


async def test_live_session_must_be_opened_first(client: Connection) -> None:
    call = client.live.Separate(iter([live_pb2.LiveRequest(flush=live_pb2.LiveFlush())]))
    assert (await refused(all_of(call)))[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
