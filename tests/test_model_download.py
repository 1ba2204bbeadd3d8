"""A client has the server fetch a model: progress, going on, sharing, cancelling, and errors that say what is wrong."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from checkpoint_parts import UNET, lightning_state, save
from client_tool import TOOL, running_tool
from hub_server import HubServer, serving
from plugin_support import run_host, write_song
from service_support import RATE, RunningServer, running_server, song
from stems.v1 import models_pb2

from pyserver.service.channel import Connection, RemoteError, connect, remote_errors

MODEL = "dicose-unet"
EVENT = models_pb2.DownloadEvent
KEPT = 100_000  # bytes that arrive before a download is cancelled


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("checkpoint")
    return save(folder / "model.ckpt", lightning_state("dicose_unet", "cd")[0], {"model": UNET}).read_bytes()


@pytest.fixture(scope="module")
def served(
    checkpoint: bytes, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, HubServer]]:
    home = tmp_path_factory.mktemp("download") / "home"
    with serving(checkpoint) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.delenv("HF_TOKEN", raising=False)
        with running_server(home, tiny_model_dir) as running:
            yield running, hub


@pytest.fixture
def hub(served: tuple[RunningServer, HubServer], checkpoint: bytes) -> Iterator[HubServer]:
    """As new, and nothing of it is installed."""
    server, hub = served
    yield hub
    shutil.rmtree(server.home / "models", ignore_errors=True)
    hub.requests.clear()
    hub.go_on.clear()
    hub.status, hub.hold_after, hub.break_after = 200, None, []
    hub.set_content(checkpoint)


@pytest.fixture
def server(served: tuple[RunningServer, HubServer]) -> RunningServer:
    return served[0]


def content_requests(hub: HubServer) -> list[str | None]:
    return [part for _, where, part in hub.requests if where.startswith("/content/")]


async def download(
    client: Connection, name: str = MODEL, hub: HubServer | None = None
) -> list[models_pb2.DownloadEvent]:
    """All that is told of a download; a hub that holds it goes on once the first progress is told."""
    events = []
    with remote_errors():
        async for event in client.models.DownloadModel(models_pb2.DownloadModelRequest(name=name)):
            events.append(event)
            if hub is not None and event.done_bytes:
                hub.go_on.set()
    return events


async def state_of(client: Connection, name: str = MODEL) -> int:
    listed = await client.models.ListModels(models_pb2.ListModelsRequest())
    return next(model.state for model in listed.models if model.name == name)


async def test_a_model_is_fetched_installed_and_listed(
    server: RunningServer, hub: HubServer, checkpoint: bytes
) -> None:
    async with await connect(server.target) as client:
        assert await state_of(client) == models_pb2.Model.STATE_NOT_DOWNLOADED
        hub.hold_after = len(checkpoint) - KEPT
        events = await download(client, hub=hub)
        stages = [event.stage for event in events]
        assert stages == sorted(stages)
        assert {EVENT.STAGE_DOWNLOAD, EVENT.STAGE_INSTALL} <= set(stages)
        done = [event.done_bytes for event in events if event.stage == EVENT.STAGE_DOWNLOAD]
        assert done == sorted(done)
        assert any(0 < count < len(checkpoint) for count in done)
        assert {event.total_bytes for event in events if event.stage == EVENT.STAGE_DOWNLOAD} == {len(checkpoint)}
        assert events[-1].stage == EVENT.STAGE_DONE
        assert events[-1].model.name == MODEL
        assert await state_of(client) == models_pb2.Model.STATE_AVAILABLE
        hub.requests.clear()
        assert [event.stage for event in await download(client)] == [EVENT.STAGE_DONE]
        assert not hub.requests


async def test_a_cancelled_download_stops_and_is_gone_on_with(
    server: RunningServer, hub: HubServer, checkpoint: bytes
) -> None:
    hub.hold_after = KEPT
    async with await connect(server.target) as client:
        call = client.models.DownloadModel(models_pb2.DownloadModelRequest(name=MODEL))
        async for event in call:
            if event.stage == EVENT.STAGE_DOWNLOAD:
                break
        call.cancel()
        await asyncio.sleep(0.5)
        hub.go_on.set()
        parts = list((server.home / "models" / ".downloads").glob("*.part"))
        assert len(parts) == 1
        await asyncio.sleep(0.5)
        kept = parts[0].stat().st_size
        assert kept < len(checkpoint), "it went on without anybody to wait for it"
        assert await state_of(client) == models_pb2.Model.STATE_NOT_DOWNLOADED
        assert (await download(client))[-1].stage == EVENT.STAGE_DONE
    assert content_requests(hub) == [None, f"bytes={kept}-" if kept else None]


async def test_calls_for_one_model_share_its_download(server: RunningServer, hub: HubServer) -> None:
    hub.hold_after = KEPT
    async with await connect(server.target) as client:
        first, second = asyncio.create_task(download(client)), asyncio.create_task(download(client))
        impatient = client.models.DownloadModel(models_pb2.DownloadModelRequest(name=MODEL))
        await impatient.read()
        impatient.cancel()
        await asyncio.sleep(0.5)
        hub.go_on.set()
        for events in await asyncio.gather(first, second):
            assert events[-1].stage == EVENT.STAGE_DONE
    assert content_requests(hub) == [None]


async def test_a_broken_connection_to_the_hub_is_resumed(server: RunningServer, hub: HubServer) -> None:
    hub.break_after = [KEPT]
    async with await connect(server.target) as client:
        assert (await download(client))[-1].stage == EVENT.STAGE_DONE
    assert content_requests(hub) == [None, f"bytes={KEPT}-"]


@pytest.mark.parametrize(
    ("wrong", "reason", "code"),
    [
        ("missing", "HUB_FILE_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        ("denied", "HUB_ACCESS_DENIED", grpc.StatusCode.PERMISSION_DENIED),
        ("damaged", "DOWNLOAD_CORRUPTED", grpc.StatusCode.DATA_LOSS),
        ("no checkpoint", "BAD_CHECKPOINT", grpc.StatusCode.INVALID_ARGUMENT),
        ("no such model", "UNKNOWN_MODEL", grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_what_is_wrong_is_said(
    server: RunningServer, hub: HubServer, wrong: str, reason: str, code: grpc.StatusCode
) -> None:
    if wrong == "missing":
        hub.status = 404
    elif wrong == "denied":
        hub.status = 403
    elif wrong == "damaged":
        hub.sha256 = "0" * 64
    elif wrong == "no checkpoint":
        hub.set_content(os.urandom(10_000))
    name = "dicose-unit" if wrong == "no such model" else MODEL
    async with await connect(server.target) as client:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in client.models.DownloadModel(models_pb2.DownloadModelRequest(name=name)):
                pass
        assert refused.value.code() == code
        with pytest.raises(RemoteError) as explained:
            await download(client, name)
        assert explained.value.reason == reason
        assert await state_of(client) == models_pb2.Model.STATE_NOT_DOWNLOADED


async def test_a_server_that_ends_does_not_wait_for_the_hub(
    checkpoint: bytes, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(checkpoint) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.hold_after = KEPT
        with running_server(tmp_path / "home", tiny_model_dir) as running:
            async with await connect(running.target) as client:
                fetching = asyncio.create_task(download(client))
                await asyncio.to_thread(hub.holding.wait, 20)
                assert await asyncio.to_thread(running.terminate) == 0
                with pytest.raises(RemoteError) as explained:
                    await fetching
                assert explained.value.reason == "SHUTTING_DOWN"
        hub.go_on.set()


@pytest.mark.skipif(not TOOL.exists(), reason="the plugin is not built: `make plugin`")
def test_the_plugins_client_shows_progress_cancels_and_goes_on(
    server: RunningServer, hub: HubServer, checkpoint: bytes
) -> None:
    hub.hold_after = len(checkpoint) // 2
    with running_tool("download", server.home, "--model", MODEL, "--cancel-after-s", "1") as tool:
        assert tool.finish() == 0
        assert any(line["event"] == "progress" and line["done"] > 0 for line in tool.said)
        assert not any(line["event"] == "arrived" for line in tool.said)
    hub.go_on.set()
    with running_tool("download", server.home, "--model", MODEL) as tool:
        assert tool.finish() == 0
        assert any(line["event"] == "arrived" for line in tool.said)
        assert max(line["total"] for line in tool.said if line["event"] == "progress") == len(checkpoint)
    first, second = content_requests(hub)
    assert first is None
    assert str(second).startswith("bytes=")


@pytest.mark.skipif(not TOOL.exists(), reason="the plugin is not built: `make plugin`")
def test_the_plugins_client_says_why_a_model_did_not_come(server: RunningServer, hub: HubServer) -> None:
    hub.status = 404
    with running_tool("download", server.home, "--model", MODEL) as tool:
        assert tool.finish() == 1
        assert tool.said[-1]["reason"] == "HUB_FILE_NOT_FOUND"
        assert "moved or renamed" in tool.said[-1]["message"]


@pytest.mark.skipif(not TOOL.exists(), reason="the plugin is not built: `make plugin`")
def test_a_project_whose_model_is_missing_gets_it_and_goes_on(
    server: RunningServer, hub: HubServer, tmp_path: Path
) -> None:
    missing = "Model missing on the server"
    begin = f"""
        load direct
        param Live latency = 12 s
        model {MODEL}
        offline on
        prepare 44100 512
        server 30 {missing}
        get {MODEL} 60
    """
    hub.status = 404
    said = run_host(f"{begin} server 1 Ready\n", server.home, tmp_path)
    assert said.all("server") == [missing] * 2
    assert "moved or renamed" in said["problem"]
    hub.status = 200
    said = run_host(f"{begin} server 20 Ready\n", server.home, tmp_path)
    assert said["problem"] == ""
    first, second = said.all("server")
    assert first == missing
    assert second.startswith("Ready")


@pytest.mark.skipif(not TOOL.exists(), reason="the plugin is not built: `make plugin`")
def test_a_region_that_was_refused_for_want_of_its_model_is_separated_when_that_has_come(
    server: RunningServer, hub: HubServer, tmp_path: Path
) -> None:
    write_song(tmp_path / "song.wav", song(2.0), RATE)
    script = f"""
        load direct
        param Mode = Captured
        model {MODEL}
        prepare {RATE} 512
        server 30 Ready
        drop song.wav
        settle 30
        lost
        get {MODEL} 60
        lost 60
        settle 60
    """
    said = run_host(script, server.home, tmp_path)
    refused, got, settled = said.all("problem")
    assert MODEL in refused
    assert got == ""
    assert settled == "", "what was wrong before is still said"
    assert said.all("lost") == [1, 0]
