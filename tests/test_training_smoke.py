"""Every experiment from its name to a checkpoint, and ours to a bounce by the server: small, but all the real code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli_tools import STEMS, Home, require_whole
from mini_songs import render_set
from safetensors.torch import load_file

from pyserver.models import registry as models
from training.data.render.fonts import KNOWN_FONTS
from training.experiments.experiment import MissingRun, Sources
from training.experiments.registry import EXPERIMENTS, experiment
from training.parallel import World
from training.runs import RunMismatch
from training.train import Arguments, run_stage

FAMILIES = ("stemline_small", "dicose_unet_slakh", "dicose_bsrf_musdb")
PARAMETERS = {"dicose_unet": (405_231_900, 405_496_220), "dicose_bs_roformer": (131_704_164, 179_865_576)}
slow_machines = pytest.mark.timeout(280)


def train(name: str, songs: Path, out: Path, steps: int | None = None, **settings: Path | bool) -> None:
    arguments = Arguments(
        experiment=name, smoke=True, data=songs, out=out, device="cpu", threads=1, steps=steps, **settings
    )
    assert run_stage(arguments, World()) == (steps or experiment(name).smoke().train.steps)


def validation(run: Path) -> dict[str, float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found: dict[str, float] = rows[-1]["validation"]
    return found


def test_there_are_all_stages_and_the_control_of_every_family() -> None:
    stages = ("separator", "diffusion", "consistency", "control")
    assert {f"{family}_{stage}" for family in FAMILIES for stage in stages} <= set(EXPERIMENTS)
    for name in EXPERIMENTS:
        found = experiment(name)
        assert found.name == name
        assert json.loads(json.dumps(found.about(), default=str))["experiment"] == name


@pytest.mark.parametrize("family", FAMILIES[1:])
def test_published_networks_have_their_size(family: str) -> None:
    found = experiment(f"{family}_diffusion").network_settings()
    with torch.device("meta"):
        model = models.build(found["architecture"], found["network"])
    counts = [sum(value.numel() for value in part.parameters()) for part in (model.separator, model.refiner)]
    assert tuple(counts) == PARAMETERS[found["architecture"]]


def test_published_runs_have_the_papers_settings() -> None:
    batches = {
        "dicose_unet_slakh_separator": (150, 50),
        "dicose_unet_slakh_diffusion": (50, 50),
        "dicose_unet_slakh_consistency": (56, 14),
        "dicose_bsrf_musdb_diffusion": (18, 6),
        "dicose_bsrf_musdb_consistency": (9, 3),
    }
    for name, (batch, at_once) in batches.items():
        train = experiment(name).train
        assert (train.batch_size, train.items_at_once()) == (batch, at_once)
        distils = name.endswith("consistency")
        assert (train.optimiser.name, train.optimiser.learning_rate) == (("radam", 1e-5) if distils else ("adam", 1e-4))
        assert [train.optimiser.rate_at(step, train.steps) for step in (0, train.steps - 1)] == [
            train.optimiser.learning_rate
        ] * 2
        assert train.optimiser.ema_decay_at(0) == (0.999 if distils else 0.0)
    assert experiment("dicose_bsrf_musdb_diffusion").train.steps == 80 * 4000
    assert experiment("dicose_bsrf_musdb_consistency").train.optimiser.clip_norm == 10


def test_controls_get_the_compute_of_what_they_control() -> None:
    """In passes of the network: a step of diffusion or control is 4, one of distillation 8 and two a Heun step."""
    for family, heun in zip(FAMILIES, (2, 35 / 3, 19 / 3), strict=True):
        diffusion, consistency, control = (
            experiment(f"{family}_{stage}").train for stage in ("diffusion", "consistency", "control")
        )
        passes = 4 * diffusion.steps * diffusion.batch_size + (
            (8 + 2 * heun) * consistency.steps * consistency.batch_size
        )
        assert 4 * control.steps * control.batch_size == pytest.approx(passes, rel=0.01)
        assert (control.crop, control.augment) == (diffusion.crop, diffusion.augment)


def run_module(module: str, *arguments: object) -> None:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def mixture_of(track: Path, to: Path) -> Path:
    stems = [soundfile.read(path) for path in sorted(track.glob("*.flac"))]
    soundfile.write(to, np.sum([audio for audio, _ in stems], axis=0), stems[0][1], "FLOAT")
    return to


@pytest.fixture
def fresh_songs(mini_set: Path, tmp_path: Path) -> Path:
    """From the renderer itself; where no soundfont is installed, from its synthesizers."""
    return render_set(tmp_path) if any(font.path.is_file() for font in KNOWN_FONTS) else mini_set


@pytest.mark.timeout(600)  # 45 s of one core
def test_our_stages_end_in_a_model_that_the_server_bounces_with(fresh_songs: Path, tmp_path: Path) -> None:
    """Rendering, every stage, the control, export, and a server that separates a song with what was trained."""
    separator, finished, joint, diffusion = (
        tmp_path / name for name in ("separator", "finished", "joint", "diffusion")
    )
    where = ["--data", fresh_songs, "--out", separator, "--device", "cpu", "--threads", 1]
    run_module("training.train", "--experiment", "stemline_small_separator", "--smoke", *where)
    train("stemline_small_separator_finish", fresh_songs, finished, separator=separator)
    train("stemline_small_joint", fresh_songs, joint, separator=finished)
    train("stemline_small_diffusion", fresh_songs, diffusion, separator=joint, refiner=joint)
    train("stemline_small_consistency", fresh_songs, tmp_path / "distilled", separator=joint, refiner=diffusion)
    assert "sigma 0.1" in validation(tmp_path / "distilled")
    train("stemline_small_control", fresh_songs, tmp_path / "control", separator=joint, refiner=joint)
    for name in ("distilled", "control"):
        run = ["--separator", joint, "--refiner", tmp_path / name, "--out", tmp_path / "models" / name]
        run_module("training.export", *run, "--name", name)
    song = mixture_of(min((fresh_songs / "val").glob("Track*")), tmp_path / "song.wav")
    home = Home(tmp_path / "home", tmp_path / "models")
    with home.server():
        for name in ("distilled", "control"):
            out = tmp_path / "out" / name
            result = home.run("bounce", song, "-o", out, "--model", name, "--steps", 1)
            assert result.returncode == 0, result.stderr
            require_whole(song, out / "song")
            assert all(np.abs(soundfile.read(out / "song" / f"{stem}.wav")[0]).max() > 0 for stem in STEMS)
    first, second = (
        soundfile.read(tmp_path / "out" / name / "song" / "bass.wav")[0] for name in ("distilled", "control")
    )
    assert not np.array_equal(first, second)


@slow_machines
@pytest.mark.parametrize("family", FAMILIES[1:])
def test_published_stages_run_one_upon_the_other(family: str, mini_set: Path, tmp_path: Path) -> None:
    runs = {stage: tmp_path / stage for stage in ("separator", "diffusion", "consistency", "control")}
    train(f"{family}_separator", mini_set, runs["separator"], steps=2, tensorboard=False)
    for stage in ("diffusion", "consistency", "control"):
        before = {"separator": runs["separator"]}
        if stage == "consistency":
            before["refiner"] = runs["diffusion"]
        train(f"{family}_{stage}", mini_set, runs[stage], steps=2, tensorboard=False, **before)
        figures = validation(runs[stage])
        assert {"separator", "mean", "bass"} <= set(figures)
    # published checkpoints are the student's weights, not its average
    assert (runs["consistency"] / "trained.safetensors").is_file()
    trained, start = (load_file(runs[stage] / "best.safetensors") for stage in ("consistency", "diffusion"))
    assert trained.keys() == start.keys()
    assert any(not torch.equal(value, start[key]) for key, value in trained.items())


def test_a_refiner_starts_from_the_separators_weights(mini_set: Path, tmp_path: Path) -> None:
    train("dicose_bsrf_musdb_separator", mini_set, tmp_path / "separator", steps=1, tensorboard=False)
    small = experiment("dicose_bsrf_musdb_diffusion").smoke()
    stage, _ = small.build(Sources(validation=mini_set / "val", separator=tmp_path / "separator"))
    separator, refiner = load_file(tmp_path / "separator" / "best.safetensors"), stage.trained.state_dict()
    assert all(torch.equal(value, refiner[key]) for key, value in separator.items())
    assert len(refiner) > len(separator)


def test_the_finish_starts_where_the_separator_is(mini_set: Path, tmp_path: Path) -> None:
    train("stemline_small_separator", mini_set, tmp_path / "separator", steps=1, tensorboard=False)
    sources = Sources(validation=mini_set / "val", separator=tmp_path / "separator")
    stage, average = experiment("stemline_small_separator_finish").smoke().build(sources)
    for key, value in load_file(tmp_path / "separator" / "best.safetensors").items():
        assert torch.equal(value, stage.trained.state_dict()[key])
        assert torch.equal(value, average.state_dict()[key])


def test_what_a_stage_builds_upon_must_be_named_and_be_there(mini_set: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingRun, match="--separator"):
        train("stemline_small_diffusion", mini_set, tmp_path / "run")
    with pytest.raises(RunMismatch, match=str(tmp_path)):
        train("stemline_small_diffusion", mini_set, tmp_path / "run", separator=tmp_path)
    with pytest.raises(ValueError, match="dicose_bsrf_musdb_separator"):
        train("no_such_experiment", mini_set, tmp_path / "run")


def test_a_folder_with_another_stage_is_not_gone_on_with(mini_set: Path, tmp_path: Path) -> None:
    train("stemline_small_separator", mini_set, tmp_path / "run", steps=1, tensorboard=False)
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(RunMismatch, match="'separator', not 'control'"):
        train("stemline_small_control", mini_set, tmp_path / "run", separator=tmp_path / "run", tensorboard=False)
    with pytest.raises(RunMismatch, match="architecture"):
        train("dicose_unet_slakh_separator", mini_set, tmp_path / "run", tensorboard=False)
    assert (tmp_path / "run" / "config.json").read_bytes() == before
