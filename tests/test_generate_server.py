"""Stems from nothing and stems that go with others, as a user meets them: real processes, an untrained model."""

import asyncio
import json
import os
import re
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from cli_tools import Home, copy_models, noise, read, song, wait_until
from prior_parts import CARD, ONLY_GENERATES, RATE, STEMS, WINDOW, install
from service_support import ended, job_request, read_stem, running_server, stems_of, upload_messages
from stems.v1 import audio_pb2, bounce_pb2, generate_pb2, live_pb2, models_pb2, server_pb2

from pyserver.cli import main
from pyserver.cli.exits import Exit
from pyserver.service.channel import Connection, call_error, connect

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def models(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with a prior beside those without."""
    root = copy_models(tiny_model_dir, tmp_path_factory.mktemp("priors") / "models")
    for card in (CARD, ONLY_GENERATES):
        install(root / card.name, card)
    return root


@pytest.fixture(scope="module")
def home(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A user whose server is running."""
    user = Home(tmp_path_factory.mktemp("user") / "home", models)
    with user.server():
        yield user


@pytest.fixture
def user(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """As `home`, for commands and connections in this process."""
    for name in ("STEMLINE_HOME", "STEMLINE_MODELS"):
        monkeypatch.setenv(name, home.environment[name])
    return home


@pytest.fixture
async def client(user: Home) -> AsyncIterator[Connection]:
    async with await connect() as connection:
        yield connection


def asked(seconds: float, **changes: object) -> generate_pb2.CreateGenerationRequest:
    fields = {
        "request_id": str(uuid.uuid4()),
        "model": CARD.name,
        "steps": 3,
        "noise_seed": 5,
        "audio": audio_pb2.AudioSpec(sample_rate_hz=RATE, channels=1),
        "num_samples": round(seconds * RATE),
    }
    return generate_pb2.CreateGenerationRequest(**(fields | changes))


async def refused(call: grpc.aio.Call) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call if hasattr(call, "__aiter__") else _once(call):
            pass
    error = call_error(caught.value)
    return error.reason, str(error)


async def _once(call: grpc.aio.Call) -> AsyncIterator[object]:
    yield await call


def stem_files(folder: Path, seconds: float = 1.0, rate: int = 44100, **named: str) -> dict[str, Path]:
    """Two stems in stereo, `drums.wav` and `Song - Bass 01.wav` if they are not named otherwise."""
    names = {"drums": "drums.wav", "bass": "Song - Bass 01.wav"} | named
    audio = noise(seconds, rate)
    return {
        "drums": song(folder / names["drums"], audio, rate),
        "bass": song(folder / names["bass"], np.roll(audio, 100, axis=0), rate),
    }


async def test_a_piece_from_nothing_is_its_stems_and_their_mix(user: Home, client: Connection, tmp_path: Path) -> None:
    """By the command, and by the service with the same seed: the same bytes; with another one, others."""
    result = await asyncio.to_thread(
        user.run, "generate", "--seconds", 2, "--seed", 5, "--steps", 3, "-o", tmp_path / "a"
    )
    assert result.returncode == Exit.OK, result.stderr
    assert sorted(result.stdout.split()) == sorted(str(tmp_path / "a" / f"{name}.wav") for name in (*STEMS, "mix"))
    job = await client.generate.CreateGeneration(asked(2))
    assert job.state in (bounce_pb2.JOB_STATE_QUEUED, bounce_pb2.JOB_STATE_RUNNING)
    assert (await client.generate.CreateGeneration(asked(2, request_id="other", noise_seed=6))).job_id != job.job_id
    job = await ended(client, job.job_id)
    assert (job.stems, job.known, job.model) == (list(STEMS), [], CARD.name)
    made, total = await stems_of(client, job), np.zeros(2 * RATE)
    for name in (*STEMS, "mix"):
        audio, rate = read(tmp_path / "a" / f"{name}.wav")
        assert (audio.shape, rate) == ((2 * RATE, 1), RATE)
        assert audio.any()
        assert audio.astype("<f4").tobytes() == made[name]
        total += audio[:, 0] if name != "mix" else 0
    assert np.abs(total - read(tmp_path / "a" / "mix.wav")[0][:, 0]).max() < 1e-5
    other = await client.generate.CreateGeneration(asked(2, request_id="other", noise_seed=6))
    other_made = await stems_of(client, await ended(client, other.job_id))
    assert all(other_made[name] != made[name] for name in made)


async def test_thirty_seconds_are_accompanied_with_progress(client: Connection) -> None:
    """Stereo at 44.1 kHz; only what was asked for is written, and what is known is not even to be had."""
    known_NC, total = noise(30, 44100, 4), 30 * 44100
    job = await client.generate.CreateGeneration(
        asked(
            30,
            steps=2,
            num_samples=total,
            known=["drums", "bass"],
            stems=["piano"],
            audio=audio_pb2.AudioSpec(sample_rate_hz=44100, channels=2),
        )
    )
    assert (job.state, job.known) == (bounce_pb2.JOB_STATE_AWAITING_INPUT, ["drums", "bass"])
    status = await client.bounce.UploadInput(upload_messages(job.job_id, known_NC.tobytes()))
    assert status.committed_bytes == known_NC.nbytes
    seen = []
    async for event in client.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job.job_id)):
        seen.append(event.job.progress.done_samples)
        job = event.job
    assert seen == sorted(seen)
    assert seen[-1] == total
    assert len({done for done in seen if 0 < done < total}) > 10
    assert [output.stem for output in job.outputs] == ["piano"]
    piano_NC = np.frombuffer(await read_stem(client, job.job_id, "piano"), "<f4").reshape(total, 2)
    assert np.array_equal(piano_NC[:, 0], piano_NC[:, 1])
    assert piano_NC.any()
    for stem in ("drums", "bass", "guitar", "mix"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_stem(client, job.job_id, stem)
        assert call_error(caught.value).reason == "STEM_UNKNOWN"


async def test_a_cancelled_generation_frees_the_engine_at_once(client: Connection) -> None:
    job = await client.generate.CreateGeneration(asked(30, steps=1000))
    async for event in client.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job.job_id)):
        if event.job.progress.done_samples:
            break
    began = time.monotonic()
    job = await client.bounce.CancelJob(bounce_pb2.CancelJobRequest(job_id=job.job_id))
    assert job.state == bounce_pb2.JOB_STATE_CANCELLED
    assert time.monotonic() - began < 2
    assert 0 < job.progress.done_samples < job.progress.total_samples / 2
    short = await client.generate.CreateGeneration(asked(0.1, steps=2))
    assert (await ended(client, short.job_id)).state == bounce_pb2.JOB_STATE_SUCCEEDED
    await client.bounce.DeleteJob(bounce_pb2.DeleteJobRequest(job_id=job.job_id))


async def test_an_engine_killed_in_the_middle_changes_no_byte(client: Connection) -> None:
    """In a window that takes several requests: its steps so far are not lost, they travel with them."""
    request = {"steps": 200, "num_samples": WINDOW}
    whole = await client.generate.CreateGeneration(asked(1, **request))
    expected = await stems_of(client, await ended(client, whole.job_id))
    job = await client.generate.CreateGeneration(asked(1, **request))
    async for event in client.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job.job_id)):
        if event.job.progress.done_samples:
            break
    info = await client.server.GetInfo(server_pb2.GetInfoRequest(challenge=os.urandom(32)))
    os.kill(info.engine_pid, signal.SIGKILL)
    job = await ended(client, job.job_id)
    assert job.state == bounce_pb2.JOB_STATE_SUCCEEDED
    again = await client.server.GetInfo(server_pb2.GetInfoRequest(challenge=os.urandom(32)))
    assert again.engine_restarts == info.engine_restarts + 1
    assert await stems_of(client, job) == expected


async def test_models_say_what_they_can_and_are_asked_for_nothing_else(client: Connection) -> None:
    answer = await client.models.ListModels(models_pb2.ListModelsRequest())
    can = {model.name: list(model.abilities) for model in answer.models}
    assert can["stemline-small"] == ["separate", "refine"]
    assert can["tiny-msdm"] == ["separate", "generate", "accompany"]
    assert can["tiny-maker"] == ["generate"]
    audio = audio_pb2.AudioSpec(sample_rate_hz=RATE, channels=1)
    opened = live_pb2.LiveRequest(open=live_pb2.LiveOpen(model="tiny-maker", audio=audio))
    calls = {
        "tiny-maker cannot separate, only generate": (
            client.bounce.CreateJob(job_request(noise(0.1), model="tiny-maker")),
            client.live.Separate(iter([opened])),
        ),
        "tiny-maker cannot accompany, only generate": (
            client.generate.CreateGeneration(asked(1, model="tiny-maker", known=["bass"])),
        ),
        "stemline-small cannot generate, only separate, refine": (
            client.generate.CreateGeneration(asked(1, model="")),
        ),
    }
    for told, refusing in calls.items():
        for call in refusing:
            reason, message = await refused(call)
            assert reason == "MODEL_CANNOT"
            assert told in message
    assert (await refused(client.generate.CreateGeneration(asked(1, steps=1001))))[0] == "INVALID_REQUEST"
    assert (await refused(client.generate.CreateGeneration(asked(1, request_id=""))))[0] == "INVALID_REQUEST"
    loaded = [event.model async for event in client.models.LoadModel(models_pb2.LoadModelRequest(name="tiny-maker"))]
    assert loaded[-1].state == models_pb2.Model.STATE_READY
    job = await client.generate.CreateGeneration(asked(0.1, model="tiny-maker", steps=2))
    assert (await ended(client, job.job_id)).state == bounce_pb2.JOB_STATE_SUCCEEDED


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit code of a command and what it says about it."""
    code = main([str(argument) for argument in arguments])
    return code, " ".join(capsys.readouterr().err.split())


def test_missing_stems_are_written_as_the_given_ones_are(
    user: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = stem_files(tmp_path), tmp_path / "out"
    code, errors = told(capsys, "accompany", *given.values(), "--steps", 2, "-o", out)
    assert code == Exit.OK, errors
    assert sorted(path.name for path in out.iterdir()) == ["guitar.wav", "piano.wav"]
    for path in out.iterdir():
        audio, rate = read(path)
        assert (audio.shape, rate) == (read(given["drums"])[0].shape, 44100)
    first = (out / "piano.wav").read_bytes()
    code, errors = told(capsys, "accompany", *given.values(), "--write", "piano", "--steps", 2, "-o", out)
    assert (code, "piano.wav" in errors, "--overwrite" in errors) == (Exit.OUTPUT_EXISTS, True, True)
    (out / "guitar.wav").unlink()
    named = [f"{stem}={path}" for stem, path in given.items()]
    code, errors = told(capsys, "accompany", *named, "--write", "piano", "--steps", 2, "-o", out, "--overwrite")
    assert code == Exit.OK, errors
    assert [path.name for path in out.iterdir()] == ["piano.wav"]
    assert (out / "piano.wav").read_bytes() == first


def test_what_cannot_be_accompanied_is_told_in_its_own_words(
    user: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = stem_files(tmp_path), tmp_path / "out"
    both, drums = list(given.values()), given["drums"]
    short, slow = song(tmp_path / "guitar.wav", noise(0.5)), song(tmp_path / "piano.wav", noise(1.0, 22050), 22050)
    unclear = song(tmp_path / "bass drums.wav")
    cases: list[tuple[tuple[object, ...], Exit, str]] = [
        ((), Exit.USAGE, "no stems were given"),
        ((*both, "--write", "kazoo"), Exit.STEM_UNKNOWN, 'no stem "kazoo", only bass, drums, guitar, piano'),
        ((f"kazoo={drums}",), Exit.STEM_UNKNOWN, 'no stem "kazoo"'),
        ((song(tmp_path / "song.wav"),), Exit.STEM_UNKNOWN, "is in its name; say it: bass="),
        ((unclear,), Exit.STEM_UNKNOWN, "could be bass or drums"),
        ((*both, "--write", "piano,bass"), Exit.USAGE, '"bass" is given, so it cannot be asked for'),
        ((drums, f"drums={unclear}"), Exit.USAGE, '"drums" is given twice'),
        ((*both, short), Exit.STEMS_DIFFER, "22050 samples in 2 channels at 44100 Hz"),
        ((*both, slow), Exit.STEMS_DIFFER, "at 22050 Hz; export all stems"),
        ((*both, f"guitar={unclear}", f"piano={unclear}"), Exit.USAGE, "nothing is missing"),
        ((tmp_path / "bass.wav",), Exit.FILE_NOT_FOUND, "does not exist"),
        ((*both, "--model", "tiny-maker"), Exit.MODEL_CANNOT, "tiny-maker cannot accompany, only generate"),
        ((*both, "--model", "stemline-small"), Exit.MODEL_CANNOT, "cannot accompany, only separate, refine"),
        ((*both, "--model", "tiny-mdsm"), Exit.UNKNOWN_MODEL, 'did you mean "tiny-msdm"?'),
    ]
    for arguments, expected, words in cases:
        code, errors = told(capsys, "accompany", *arguments, "-o", out)
        assert (code, words if words in errors else errors) == (expected, words)
    assert told(capsys, "generate", "--seconds", 0, "-o", out)[0] == Exit.USAGE
    assert not out.exists()


def test_no_model_that_can_is_told_before_a_server_is_started(
    tmp_path: Path, tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, errors = told(capsys, "generate", "-o", tmp_path / "out")
    assert code == Exit.NO_MODEL_CAN
    assert "no model on this machine can generate" in errors


def test_an_interrupted_generation_cancels_its_job_and_leaves_nothing(user: Home, tmp_path: Path) -> None:
    jobs = user.path / "state" / "jobs"

    def states() -> list[tuple[str, int]]:
        found = (json.loads(path.read_text()) for path in jobs.glob("*/job.json"))
        return [(job["state"], job["done_samples"]) for job in found if job["spec"]["refiner_steps"] == 999]

    process = user.start("generate", "--seconds", 60, "--steps", 999, "-o", tmp_path / "out")
    wait_until(lambda: any(state == "RUNNING" and done for state, done in states()), limit_s=60)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == Exit.CANCELLED
    assert re.search("stemline generate: cancelled", errors)
    assert [state for state, _ in states()] == ["CANCELLED"]
    assert not list(tmp_path.rglob("*.wav"))


async def test_a_killed_server_goes_on_at_the_last_finished_window(tmp_path: Path, models: Path) -> None:
    home, request = tmp_path / "home", asked(2, steps=30)
    with running_server(home, models) as server:
        async with await connect(server.target) as client:
            job = await client.generate.CreateGeneration(request)
            async for event in client.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job.job_id)):
                if event.job.progress.done_samples > event.job.progress.total_samples / 3:
                    break
            server.kill()
    work = home / "state" / "jobs" / job.job_id / "work" / "made.f32"
    made = work.read_bytes()
    assert len(made) >= 4 * 4 * WINDOW
    with running_server(home, models) as server:
        async with await connect(server.target) as client:
            first = await anext(
                aiter(client.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job.job_id, after_event=0)))
            )
            assert first.job.progress.done_samples > 0
            job = await ended(client, job.job_id)
            assert job.state == bounce_pb2.JOB_STATE_SUCCEEDED
            found = await stems_of(client, job)
            again = await client.generate.CreateGeneration(asked(2, steps=30))
            assert found == await stems_of(client, await ended(client, again.job_id))
    stems = np.stack([np.frombuffer(found[stem], "<f4") for stem in STEMS], axis=1)
    assert stems.astype("<f4").tobytes().startswith(made)
