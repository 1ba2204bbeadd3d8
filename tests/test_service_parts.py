"""The parts of the service that promise something by themselves, without a server."""

import asyncio
import json
import logging
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from stems.v1 import models_pb2, models_pb2_grpc

from pyserver import paths
from pyserver.cli.exits import Exit, exit_code
from pyserver.errors import StemlineError
from pyserver.service import address, auth
from pyserver.service.channel import error_info
from pyserver.service.errors import Within, reported, status_of
from pyserver.service.instance import ServerAlreadyRunning, only_instance
from pyserver.service.logs import JsonFormatter
from pyserver.service.pacing import Pacing


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMLINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("module", ["pyserver.service.server", "pyserver.cli", "pyserver.cli.serve"])
def test_api_process_never_imports_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_runtime_directory_and_token_are_ours_alone(home: Path) -> None:
    token = paths.load_or_create_token()
    assert paths.load_or_create_token() == token
    assert stat.S_IMODE(paths.runtime_dir().stat().st_mode) == 0o700
    assert stat.S_IMODE(paths.token_path().stat().st_mode) == 0o600
    assert [p.name for p in paths.runtime_dir().iterdir()] == ["token"]


def test_directory_of_somebody_else_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.runtime_dir()
    monkeypatch.setattr(os, "getuid", lambda: home.stat().st_uid + 1)
    with pytest.raises(paths.UnsafePath, match="belongs to user"):
        paths.runtime_dir()


def test_link_in_place_of_a_directory_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    home.mkdir()
    (home / "run").symlink_to(tmp_path / "theirs")
    with pytest.raises(paths.UnsafePath, match="not a directory"):
        paths.runtime_dir()


def test_token_that_others_can_read_is_refused(home: Path) -> None:
    paths.load_or_create_token()
    paths.token_path().chmod(0o644)
    with pytest.raises(paths.UnsafePath, match="others can read"):
        paths.load_or_create_token()


def test_long_home_gets_a_short_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMLINE_HOME", str(tmp_path / ("x" * 120)))
    path = paths.socket_path()
    try:
        assert len(os.fsencode(path)) <= paths.MAX_SOCKET_PATH_BYTES
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert paths.socket_path() == path
    finally:
        path.parent.rmdir()


def test_server_record_is_removed_only_by_its_process(home: Path) -> None:
    record = paths.ServerRecord(address="unix:/x", pid=17, version="1", token_file="/t")
    paths.write_server_record(record)
    paths.remove_server_record(pid=18)
    assert paths.read_server_record() == record
    paths.remove_server_record(pid=17)
    assert paths.read_server_record() is None


def test_second_server_of_one_home_is_refused(home: Path) -> None:
    code = "import pathlib, sys, time\nfrom pyserver.service.instance import only_instance\n"
    code += "with only_instance(pathlib.Path(sys.argv[1])):\n  print('held', flush=True)\n  time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(paths.state_dir())], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ServerAlreadyRunning, match=f"process {other.pid}"), only_instance(paths.state_dir()):
            pass
        other.kill()
        other.wait()
    with only_instance(paths.state_dir()):
        pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7000", "127.0.0.1:7000"),
        ("[::1]:7000", "[::1]:7000"),
        ("localhost:0", "localhost:0"),
        ("unix:/tmp/a.sock", "unix:/tmp/a.sock"),
        ("unix:///tmp/a.sock", "unix:/tmp/a.sock"),
    ],
)
def test_addresses_are_read_as_written(text: str, expected: str) -> None:
    assert str(address.parse(text)) == expected


@pytest.mark.parametrize("text", ["", "7000", "host:", ":7000", "host:70000", "host:-1", "unix:/" + "x" * 120])
def test_nonsense_addresses_are_refused(text: str) -> None:
    with pytest.raises(address.BadAddress):
        address.parse(text)


@pytest.mark.parametrize("text", ["0.0.0.0:7000", "192.168.1.5:7000", "[::]:7000", "studio.local:7000"])
def test_beyond_this_machine_takes_tls(text: str) -> None:
    with pytest.raises(address.TlsRequired):
        address.require_safe(address.parse(text), tls=False)
    address.require_safe(address.parse(text), tls=True)


@pytest.mark.parametrize("text", ["127.0.0.1:7000", "127.8.0.1:1", "[::1]:7000", "localhost:7000", "unix:/tmp/a.sock"])
def test_this_machine_takes_no_tls(text: str) -> None:
    address.require_safe(address.parse(text), tls=False)


def test_socket_of_a_dead_server_is_cleaned_up_and_a_living_one_kept(tmp_path: Path) -> None:
    where = address.UnixAddress(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(where.path))
        listener.listen()
        with pytest.raises(address.PortInUse):
            address.claim(where)
        assert where.path.exists()
    address.claim(where)
    assert not where.path.exists()


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"precious")
    with pytest.raises(address.BadAddress):
        address.claim(address.UnixAddress(tmp_path / "song.wav"))
    assert (tmp_path / "song.wav").read_bytes() == b"precious"


def test_taken_port_is_reported() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(address.PortInUse, match=str(listener.getsockname()[1])):
            address.claim(address.TcpAddress("127.0.0.1", listener.getsockname()[1]))


def test_token_check_takes_the_token_and_nothing_else() -> None:
    auth.check("Bearer abc", "abc")
    auth.check(b"bearer abc", "abc")
    with pytest.raises(auth.MissingToken):
        auth.check(None, "abc")
    for header in ("Bearer abd", "Bearer ab", "Bearer ", "", "abc", "Basic abc", "Bearer ähm"):
        with pytest.raises(auth.WrongToken):
            auth.check(header, "abc")


def test_error_details_carry_reason_and_metadata() -> None:
    from google.rpc import error_details_pb2, status_pb2

    class NoSuchPiano(StemlineError):
        reason = "JOB_NOT_FOUND"

    code, raw = status_of(NoSuchPiano("no piano", job_id=7))
    status = status_pb2.Status.FromString(raw)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (code, status.code) == (grpc.StatusCode.NOT_FOUND, 5)
    assert (info.reason, info.domain, dict(info.metadata)) == ("JOB_NOT_FOUND", "stemline", {"job_id": "7"})


def test_exit_codes_follow_the_reason() -> None:
    assert exit_code("PORT_IN_USE") == 6
    assert exit_code("WRONG_TOKEN") == 90
    assert exit_code("never heard of") == Exit.UNEXPECTED
    assert exit_code("CANCELLED") == 130


def test_log_lines_are_json_with_their_extra_fields() -> None:
    record = logging.LogRecord("pyserver.x", logging.INFO, "f.py", 1, "job %s", ("a",), None)
    record.job_id = "a"
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "job a"
    assert (line["level"], line["logger"], line["job_id"]) == ("info", "pyserver.x", "a")


class _Broken(models_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """Handlers that fail in ways nobody foresaw, one before and one in the middle of its answer."""

    async def ListModels(self, request: object, context: object) -> object:
        raise RuntimeError("the password is swordfish")

    async def LoadModel(self, request: object, context: object) -> AsyncIterator[models_pb2.LoadEvent]:
        yield models_pb2.LoadEvent()
        raise RuntimeError("the password is swordfish")


async def test_unforeseen_error_is_told_by_id_and_its_text_stays_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = grpc.aio.server(interceptors=(Within(reported),))
    models_pb2_grpc.add_ModelServiceServicer_to_server(_Broken(), server)
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        stub = models_pb2_grpc.ModelServiceStub(channel)
        stream = stub.LoadModel(models_pb2.LoadModelRequest())
        assert await stream.read() == models_pb2.LoadEvent()
        for call in (stub.ListModels(models_pb2.ListModelsRequest()), stream.read()):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            info = error_info(caught.value)
            assert info is not None
            assert (caught.value.code(), info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
            assert "swordfish" not in str(caught.value)
            (entry,) = [record for record in caplog.records if getattr(record, "error_id", "") == info.metadata["id"]]
            assert "swordfish" in str(entry.exc_info)
    await server.stop(None)


async def _is_waiting(task: asyncio.Task[None]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


async def test_reading_waits_until_stems_have_gone_out() -> None:
    pacing = Pacing(latency_samples=100)
    await pacing.room_for(90)
    await pacing.room_for(90)
    third = asyncio.create_task(pacing.room_for(90))
    assert await _is_waiting(third)
    pacing.went_out(50)
    assert await _is_waiting(third)
    pacing.went_out(50)
    await asyncio.wait_for(third, 1)
