"""How a server starts, dies and comes back: real processes, real signals."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from service_support import (
    RATE,
    RunningServer,
    ended,
    job_request,
    running_server,
    server_command,
    server_env,
    song,
    starting_server,
    stems_of,
    submit,
    upload_messages,
)
from stems.v1 import bounce_pb2, models_pb2

from pyserver.cli.exits import Exit
from pyserver.service.channel import (
    PING_S,
    Connection,
    ServerUnreachable,
    Target,
    connect,
    error_info,
    open_channel,
    remote_errors,
)

LONG_S = 25.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def outcome(home: Path, models: Path, *options: str, timeout_s: float = 60) -> tuple[int, str]:
    """Exit code and stderr of a server that must not come up."""
    done = subprocess.run(
        server_command(*options), env=server_env(home, models), capture_output=True, text=True, timeout=timeout_s
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


async def until_running(server: Connection, job_id: str, windows: int = 1) -> bounce_pb2.Job:
    """The job once it has finished some windows, well before its end."""
    async for event in server.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job_id)):
        progress = event.job.progress
        if progress.done_samples >= windows * 20_000:
            assert progress.done_samples < progress.total_samples
            return event.job
    raise AssertionError("the job ended before it was seen running")


async def undisturbed(server: RunningServer, song_NC: np.ndarray) -> dict[str, bytes]:
    async with await connect(server.target) as client:
        return await stems_of(client, await ended(client, (await submit(client, song_NC)).job_id))


async def test_engine_killed_in_the_middle_of_a_bounce_changes_no_byte(home: Path, tiny_model_dir: Path) -> None:
    song_NC = song(LONG_S)
    with running_server(home, tiny_model_dir) as server:
        expected = await undisturbed(server, song_NC)
        async with await connect(server.target) as client:
            job = await submit(client, song_NC)
            await until_running(client, job.job_id, windows=2)
            os.kill(client.info.engine_pid, signal.SIGKILL)
            after = await ended(client, job.job_id)
            assert after.state == bounce_pb2.JOB_STATE_SUCCEEDED, after.error
            assert await stems_of(client, after) == expected
        async with await connect(server.target) as client:
            assert client.info.engine_restarts == 1


async def test_killed_server_is_noticed_and_its_job_goes_on_with_the_next(home: Path, tiny_model_dir: Path) -> None:
    song_NC = song(LONG_S)
    with running_server(home, tiny_model_dir) as server:
        expected = await undisturbed(server, song_NC)
        async with await connect(server.target) as client:
            job = await submit(client, song_NC)
            seen = await until_running(client, job.job_id, windows=2)
            server.kill()
            began = time.monotonic()
            with pytest.raises(ServerUnreachable), remote_errors():
                await ended(client, job.job_id)
            assert time.monotonic() - began < PING_S, "it was noticed by pings only"
    with running_server(home, tiny_model_dir) as server:
        async with await connect(server.target) as client:
            first = await client.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job.job_id)).read()
            assert first.job.progress.done_samples >= seen.progress.done_samples
            after = await ended(client, job.job_id)
            assert await stems_of(client, after) == expected


async def test_upload_goes_on_with_the_next_server(home: Path, tiny_model_dir: Path) -> None:
    song_NC = song(2.0)
    data, request_id = song_NC.tobytes(), "my upload"
    with running_server(home, tiny_model_dir) as server:
        async with await connect(server.target) as client:
            job = await client.bounce.CreateJob(job_request(song_NC, request_id=request_id))
            await client.bounce.UploadInput(upload_messages(job.job_id, data[:100_000], chunk_bytes=50_000))
        server.kill()
    with running_server(home, tiny_model_dir) as server:
        async with await connect(server.target) as client:
            again = await client.bounce.CreateJob(job_request(song_NC, request_id=request_id))
            assert (again.job_id, again.committed_bytes) == (job.job_id, 100_000)
            await client.bounce.UploadInput(upload_messages(job.job_id, data, start=100_000))
            after = await ended(client, job.job_id)
            assert after.state == bounce_pb2.JOB_STATE_SUCCEEDED


async def test_stopping_is_quick_tells_clients_and_loses_no_job(home: Path, tiny_model_dir: Path) -> None:
    song_NC = song(LONG_S)
    with running_server(home, tiny_model_dir) as server:
        async with await connect(server.target) as client:
            job = await submit(client, song_NC)
            await until_running(client, job.job_id)
            watch = asyncio.create_task(ended(client, job.job_id))
            await asyncio.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await watch
            info = error_info(caught.value)
            assert info is not None
            assert info.reason == "SHUTTING_DOWN"
        assert await asyncio.to_thread(server.process.wait, 30) == Exit.OK
        assert not (home / "run" / "server.json").exists()
        assert not (home / "run" / "server.sock").exists()
    with running_server(home, tiny_model_dir) as server:
        async with await connect(server.target) as client:
            assert (await ended(client, job.job_id)).state == bounce_pb2.JOB_STATE_SUCCEEDED


async def upload_without_end(job_id: str) -> AsyncIterator[bounce_pb2.UploadRequest]:
    async for message in upload_messages(job_id, bytes(800)):
        yield message
    await asyncio.sleep(600)


async def until_uploading(client: Connection, job_id: str) -> None:
    while not (await client.bounce.GetJob(bounce_pb2.GetJobRequest(job_id=job_id))).committed_bytes:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def test_second_signal_ends_at_once_and_takes_the_engine_along(home: Path, tiny_model_dir: Path) -> None:
    with running_server(home, tiny_model_dir) as server:
        async with await connect(server.target) as client:
            engine = psutil.Process(client.info.engine_pid)
            job = await client.bounce.CreateJob(job_request(song(1.0)))
            holding = client.bounce.UploadInput(upload_without_end(job.job_id))
            watching = asyncio.create_task(ended(client, job.job_id))
            await until_uploading(client, job.job_id)
            server.process.send_signal(signal.SIGINT)
            with pytest.raises(grpc.aio.AioRpcError, match="shutting down"):
                await watching
            server.process.send_signal(signal.SIGINT)
            # A server that had waited for the upload would end well.
            assert await asyncio.to_thread(server.process.wait, 30) == Exit.CANCELLED
            holding.cancel()
        _, alive = await asyncio.to_thread(psutil.wait_procs, [engine], 30)
        assert not alive


async def _engine_pid(server: RunningServer) -> int:
    async with await connect(server.target) as client:
        return int(client.info.engine_pid)


async def test_health_says_not_serving_until_warm(home: Path, tiny_model_dir: Path) -> None:
    with starting_server(home, tiny_model_dir) as server:
        async with open_channel(server.target) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
            kinds = health_pb2.HealthCheckResponse
            assert [(await watch.read()).status for _ in range(2)] == [kinds.NOT_SERVING, kinds.SERVING]
            server.process.send_signal(signal.SIGTERM)
            assert (await watch.read()).status == kinds.NOT_SERVING


async def test_calls_made_before_the_engine_is_warm_wait_for_it(home: Path, tiny_model_dir: Path) -> None:
    with starting_server(home, tiny_model_dir) as server:
        async with await connect(server.target) as client:
            assert not client.info.devices
            listed = await client.models.ListModels(models_pb2.ListModelsRequest())
            ready = {model.name for model in listed.models if model.state == models_pb2.Model.STATE_READY}
            assert ready == {"stemline-small"}


def test_second_server_is_refused_with_the_first_ones_process(home: Path, tiny_model_dir: Path) -> None:
    with running_server(home, tiny_model_dir) as server:
        code, text = outcome(home, tiny_model_dir)
        assert code == Exit.SERVER_ALREADY_RUNNING
        assert str(server.process.pid) in text
        assert asyncio.run(_engine_pid(server)) > 0


def test_taken_port_is_refused(home: Path, tiny_model_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = outcome(home, tiny_model_dir, "--listen", f"127.0.0.1:{port}")
    assert code == Exit.PORT_IN_USE
    assert f"port {port} is in use" in text


def test_port_of_another_server_is_refused(tmp_path: Path, tiny_model_dir: Path) -> None:
    with running_server(tmp_path / "one", tiny_model_dir, "--listen", "127.0.0.1:0") as server:
        code, _ = outcome(tmp_path / "two", tiny_model_dir, "--listen", str(server.record["address"]))
        assert code == Exit.PORT_IN_USE


def test_taken_metrics_port_is_refused(home: Path, tiny_model_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = outcome(home, tiny_model_dir, "--metrics-port", str(taken.getsockname()[1]))
    assert code == Exit.PORT_IN_USE
    assert "metrics" in text


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--listen", "0.0.0.0:0"], Exit.TLS_REQUIRED, "--tls-cert"),
        (["--listen", "nonsense"], Exit.BAD_ADDRESS, "127.0.0.1:7000"),
        (["--model", "stemline-smal"], Exit.UNKNOWN_MODEL, "stemline-small"),
        (["--gpu", "0"], Exit.USAGE, "exclude"),
        (["--token-file", "/nonexistent"], Exit.NO_TOKEN_FILE, "/nonexistent"),
        (["--tls-cert", "/nonexistent"], Exit.USAGE, "--tls-key"),
        (["--tls-cert", "/nope", "--tls-key", "/nope", "--listen", "127.0.0.1:0"], Exit.TLS_FILES, "/nope"),
        (["--frobnicate"], Exit.USAGE, "frobnicate"),
    ],
)
def test_wrong_options_are_named(home: Path, tiny_model_dir: Path, options: list[str], code: Exit, text: str) -> None:
    found, message = outcome(home, tiny_model_dir, *options)
    assert found == code
    assert text in message


def test_gpu_that_is_not_there_is_named(home: Path, tiny_model_dir: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    command = [part for part in server_command("--gpu", "0") if part != "--cpu"]
    done = subprocess.run(command, env=server_env(home, tiny_model_dir), capture_output=True, text=True, timeout=60)
    assert done.returncode == Exit.GPU_NOT_AVAILABLE
    assert "--cpu" in done.stderr
    assert not (home / "run" / "server.json").exists()


def test_stale_socket_of_a_killed_server_does_not_matter(home: Path, tiny_model_dir: Path) -> None:
    with running_server(home, tiny_model_dir) as server:
        server.kill()
        assert (home / "run" / "server.sock").exists()
    with running_server(home, tiny_model_dir) as server:
        assert asyncio.run(_engine_pid(server)) > 0
        assert stat.S_IMODE((home / "run" / "server.sock").stat().st_mode) == 0o600


def metrics(port: int) -> dict[str, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        return dict(line.rsplit(" ", 1) for line in page.read().decode().splitlines() if line[0] != "#")


async def test_metrics_count_what_was_done(home: Path, tiny_model_dir: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running_server(home, tiny_model_dir, "--metrics-port", str(port)) as server:
        async with await connect(server.target) as client:
            await ended(client, (await submit(client, song(2.0))).job_id)
        lines = metrics(port)
    assert float(lines['stemline_windows_total{kind="bounce"}']) >= 4
    assert float(lines['stemline_compute_seconds_total{kind="bounce"}']) > 0
    assert float(lines['stemline_jobs{state="succeeded"}']) == 1
    assert float(lines["stemline_live_sessions"]) == 0
    assert float(lines["stemline_engine_restarts"]) == 0
    assert float(lines['stemline_waiting_windows{kind="bounce"}']) == 0


async def test_beyond_this_machine_goes_by_tls_and_here_without(
    home: Path, tiny_model_dir: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--listen", f"0.0.0.0:{port}", "--tls-cert", str(cert), "--tls-key", str(key)]
    with running_server(home, tiny_model_dir, *options) as server:
        token = server.target.token
        remote = Target(address=f"localhost:{port}", token=token, tls=True, certificate=cert.read_bytes())
        async with await connect(remote) as client:
            job = await ended(client, (await submit(client, song(0.5))).job_id)
            assert job.state == bounce_pb2.JOB_STATE_SUCCEEDED
        with pytest.raises(ServerUnreachable):
            await connect(Target(address=f"localhost:{port}", token=token))
        assert str(server.record["address"]).startswith("unix:")
        async with await connect(server.target) as client:
            assert client.info.engine_pid > 0


@pytest.mark.slow
async def test_idle_and_pinging_clients_are_not_thrown_out(home: Path, tiny_model_dir: Path) -> None:
    """Pings closer than the server's minimum would close the channel; this one pings as our clients do, but oftener."""
    with running_server(home, tiny_model_dir) as server:
        options = [("grpc.keepalive_time_ms", 5200), ("grpc.keepalive_permit_without_calls", 1)]
        async with grpc.aio.insecure_channel(server.target.address, options=options) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            await health.Check(health_pb2.HealthCheckRequest())
            states = [channel.get_state()]
            for _ in range(34):
                await asyncio.sleep(0.5)
                states.append(channel.get_state())
            assert set(states) == {grpc.ChannelConnectivity.READY}


async def test_memory_does_not_grow_with_the_song(home: Path, tiny_model_dir: Path) -> None:
    with running_server(home, tiny_model_dir) as server:
        api = psutil.Process(server.process.pid)
        async with await connect(server.target) as client:
            await ended(client, (await submit(client, song(10.0))).job_id)
            before = api.memory_info().rss
            song_NC = np.tile(song(10.0), (18, 1))
            job = await submit(client, song_NC)
            peak, running = 0, True
            while running:
                peak = max(peak, api.memory_info().rss)
                state = (await client.bounce.GetJob(bounce_pb2.GetJobRequest(job_id=job.job_id))).state
                running = state in (bounce_pb2.JOB_STATE_QUEUED, bounce_pb2.JOB_STATE_RUNNING)
                await asyncio.sleep(0.05)
            assert state == bounce_pb2.JOB_STATE_SUCCEEDED
    assert len(song_NC) / RATE == 180
    assert peak - before < 30 * 2**20, f"{(peak - before) / 2**20:.0f} MiB more for a three-minute song"
