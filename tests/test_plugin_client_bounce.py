"""Bounces by the plugin's client: bit for bit those of Python's, whatever happens to the server."""

from pathlib import Path

from client_tool import BOUNCED, CANCELLED, FAILED, MODEL_STEMS, NEEDS_TOOL, bounce, bounced
from service_support import RunningServer, running_server, song
from stems.v1 import bounce_pb2

from pyserver.service.channel import connect

pytestmark = NEEDS_TOOL


async def test_a_bounce_is_byte_for_byte_that_of_the_python_client(server: RunningServer, tmp_path: Path) -> None:
    song_NC = song(8.0)
    with bounce(server.home, tmp_path, song_NC) as tool:
        end = tool.end()
        assert tool.finish() == 0
    assert end["state"] == BOUNCED
    assert end["fraction"] == 1
    expected = await bounced(server, song_NC, noise_seed=7)
    assert set(end["stems"]) == set(expected) == {*MODEL_STEMS, "residual"}
    for stem, data in expected.items():
        assert (tmp_path / "stems" / f"{stem}.f32").read_bytes() == data, stem
    assert sorted(p.suffix for p in (tmp_path / "stems").iterdir()) == [".f32"] * len(expected)
    async with await connect(server.target) as client:
        jobs = await client.bounce.ListJobs(bounce_pb2.ListJobsRequest())
        assert all(job.state == bounce_pb2.JOB_STATE_SUCCEEDED for job in jobs.jobs)


async def test_a_bounce_goes_on_after_its_server_was_killed(tiny_model_dir: Path, tmp_path: Path) -> None:
    song_NC = song(90.0)
    home = tmp_path / "home"
    with running_server(home, tiny_model_dir) as first, bounce(home, tmp_path, song_NC) as tool:
        tool.wait_for("state", state=3)
        first.kill()
        tool.wait_for("state", state=0)
        with running_server(home, tiny_model_dir) as second:
            assert tool.end()["state"] == BOUNCED
            assert tool.finish() == 0
            expected = await bounced(second, song_NC, noise_seed=7)
    for stem, data in expected.items():
        assert (tmp_path / "stems" / f"{stem}.f32").read_bytes() == data, stem


async def test_a_cancelled_bounce_leaves_neither_files_nor_a_job(server: RunningServer, tmp_path: Path) -> None:
    async with await connect(server.target) as client:
        before = {job.job_id for job in (await client.bounce.ListJobs(bounce_pb2.ListJobsRequest())).jobs}
        with bounce(server.home, tmp_path, song(120.0)) as tool:
            tool.wait_for("state", state=3)
            tool.tell("cancel")
            assert tool.end()["state"] == CANCELLED
            assert tool.finish() == 1
        after = {job.job_id for job in (await client.bounce.ListJobs(bounce_pb2.ListJobsRequest())).jobs}
    assert after <= before
    assert not (tmp_path / "stems").exists()


def test_a_bounce_that_the_server_refuses_fails_with_the_reason(server: RunningServer, tmp_path: Path) -> None:
    with bounce(server.home, tmp_path, song(1.0), "--model", "no-such-model") as tool:
        end = tool.end()
        assert tool.finish() == 1
    assert end["state"] == FAILED
    assert end["reason"] == "UNKNOWN_MODEL"
