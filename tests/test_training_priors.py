"""MSDM and ISDM from an experiment's name to a model that separates by either posterior: small, but the real code."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli_tools import Home, require_whole

from pyserver.diffusion.joint import Stepping, error_gain
from pyserver.diffusion.posteriors import dirac_stiffness
from pyserver.diffusion.schedules import diffusion_schedule
from pyserver.models.card import ModelCard
from training import evaluate_prior, export
from training.cards import BadInput
from training.dicose_objectives import NoiseConfig
from training.experiments.experiment import Sources
from training.experiments.registry import experiment
from training.parallel import World
from training.prior_experiment import BUILDERS, PriorExperiment, at_level, prior_loss
from training.separate import local_model
from training.train import Arguments, run_stage

NAMES = ("msdm_slakh", "isdm_slakh", "stemline_small_msdm", "stemline_small_isdm")


def train(name: str, songs: Path, out: Path, steps: int = 2) -> None:
    arguments = Arguments(
        experiment=name, smoke=True, data=songs, out=out, device="cpu", threads=1, steps=steps, tensorboard=False
    )
    assert run_stage(arguments, World()) == steps


def test_the_papers_runs_have_its_settings() -> None:
    for name in NAMES[:2]:
        found = experiment(name)
        assert isinstance(found, PriorExperiment)
        recipe = found.train.optimiser
        assert (recipe.name, recipe.learning_rate, recipe.betas) == ("adam", 1e-4, (0.9, 0.99))
        assert (found.train.batch_size, found.train.crop.samples, found.sample_rate_hz) == (16, 262144, 22050)
        assert (found.prior.separation.default_steps, found.network.sigma_data) == (150, 0.2)
        assert not found.at_reference
        assert found.train.crop.remix == 0, "sources of a song belong together"


@pytest.mark.parametrize("name", NAMES)
def test_no_request_gets_so_few_steps_that_errors_grow(name: str) -> None:
    found = experiment(name)
    assert isinstance(found, PriorExperiment)
    walk, stiffness = found.prior.separation, dirac_stiffness(len(found.stems))
    if walk.solver == "exponential":
        return  # which no number of steps makes diverge (test_exponential)
    for steps in (walk.fewest_steps, walk.default_steps):
        sigmas = diffusion_schedule(steps, walk.sigma_min, walk.sigma_max, walk.rho)
        assert error_gain(stiffness, sigmas, Stepping(corrections=walk.corrections, churn=walk.churn)) < 0.9


@pytest.mark.timeout(280)
def test_a_trained_prior_separates_in_the_server_and_by_both_posteriors(
    mini_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("stemline_small_msdm", mini_set, tmp_path / "run", steps=4)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(rows[-1]["validation"]["mean"])
    folder = tmp_path / "models" / "own-msdm"
    model = export.export(export.Arguments(separator=tmp_path / "run", out=folder, name="own-msdm", title="own"))
    assert model.card.abilities == ("separate", "generate", "accompany")
    assert "prior 4 steps" in model.card.training_data.lower()
    assert ModelCard.load(folder / "card.json") == model.card

    figures = tmp_path / "figures.json"
    common = {"model": str(folder), "songs": mini_set / "val", "limit": 1, "seconds": 4.0, "steps": (2,)}
    evaluate_prior.main(evaluate_prior.Arguments(**common, json=figures, constrained=("bass", "drums")))  # type: ignore[arg-type]
    heard = capsys.readouterr()
    assert heard.err.startswith("1 songs: mixture ")
    told, rows = heard.out, json.loads(figures.read_text())["rows"]
    assert list(rows) == [
        "mixture",
        "Dirac, bass constrained",
        "Dirac, drums constrained",
        "Gaussian, 0.75 sigma",
        "Gaussian, 1.5 sigma",
    ]
    assert all(name in told for name in rows)
    assert all(np.isfinite(row["mean"]) for row in rows.values())
    swept = evaluate_prior.Arguments(**common, solvers=("euler", "exponential"), coefficients=())  # type: ignore[arg-type]
    (rows,) = evaluate_prior.figures(local_model(str(folder)), replace(swept, steps=(1, 2)))
    assert list(rows) == [
        "mixture",
        "Dirac, bass constrained, euler, 1 steps",
        "Dirac, bass constrained, euler, 2 steps",
        "Dirac, bass constrained, exponential, 1 steps",
        "Dirac, bass constrained, exponential, 2 steps",
    ]
    with pytest.raises(BadInput, match="no stem flute"):
        next(
            evaluate_prior.figures(
                local_model(str(folder)),
                evaluate_prior.Arguments(**common, constrained=("flute",)),  # type: ignore[arg-type]
            )
        )

    song = tmp_path / "song.wav"
    mixture = 0.1 * np.random.default_rng(0).standard_normal((44100, 2))
    soundfile.write(song, mixture, 44100, "FLOAT")
    home = Home(tmp_path / "home", tmp_path / "models")
    with home.server():
        for seed in (1, 2):
            out = tmp_path / f"out{seed}"
            done = home.run("bounce", song, "-o", out, "--model", "own-msdm", "--steps", 3, "--seed", seed)
            assert done.returncode == 0, done.stderr
            require_whole(song, out / "song")
    first, second = (soundfile.read(tmp_path / f"out{seed}" / "song" / "bass.wav")[0] for seed in (1, 2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", ["msdm_slakh", "stemline_small_isdm"])
def test_other_priors_train_and_are_exported(name: str, mini_set: Path, tmp_path: Path) -> None:
    train(name, mini_set, tmp_path / "run")
    model = export.export(export.Arguments(separator=tmp_path / "run", out=tmp_path / "model", name=name))
    assert model.card.architecture == name.split("_")[-1 if "small" in name else 0]
    loaded = local_model(str(tmp_path / "model"))
    assert loaded.network.stems == len(model.card.stems)
    with pytest.raises(BadInput, match="at least 1 steps, not 0"):
        loaded.separator(0)


def test_a_prior_takes_no_refiner(mini_set: Path, tmp_path: Path) -> None:
    train("stemline_small_isdm", mini_set, tmp_path / "run", steps=1)
    arguments = export.Arguments(separator=tmp_path / "run", refiner=tmp_path / "run", out=tmp_path / "model")
    with pytest.raises(BadInput, match="joint prior"):
        export.export(arguments)


def test_independent_networks_learn_as_if_alone() -> None:
    """The gradient of one stem's network is the same whatever the other stems are; the joint one's is not."""
    noise, stems = NoiseConfig(), 0.1 * torch.randn(2, 5, 4096)
    others = stems.clone()
    others[:, 1:] = 0.1 * torch.randn(2, 4, 4096)

    def gradient(name: str, batch: torch.Tensor) -> torch.Tensor:
        found = experiment(f"stemline_small_{name}").smoke()
        assert isinstance(found, PriorExperiment)
        torch.manual_seed(0)
        model = BUILDERS[name](found.network)
        loss = prior_loss(model, batch, 0.1, noise, torch.Generator().manual_seed(1))
        loss.backward()  # type: ignore[no-untyped-call]
        part = model.get_submodule("networks.0" if name == "isdm" else "network")
        weight = next(part.parameters()).grad
        assert weight is not None
        return weight.clone()

    assert torch.equal(gradient("isdm", stems), gradient("isdm", others))
    assert not torch.equal(gradient("msdm", stems), gradient("msdm", others))


def test_a_denoiser_that_is_right_has_no_loss(tmp_path: Path) -> None:
    """And one that passes everything on is charged the noise that it leaves, at every level alike by lambda."""
    found = experiment("stemline_small_msdm").smoke()
    assert isinstance(found, PriorExperiment)
    model, stems = BUILDERS["msdm"](found.network), 0.1 * torch.randn(4, 5, 4000)
    sigma_data, noise = 0.1, NoiseConfig(sigma_log_mean=-4.0, sigma_log_std=0.5)
    model.denoise = lambda x, sigma_B: stems  # type: ignore[method-assign]
    assert float(prior_loss(model, stems, sigma_data, noise, torch.Generator().manual_seed(0))) == 0
    model.denoise = lambda x, sigma_B: x  # type: ignore[method-assign]
    passed = float(prior_loss(model, stems, sigma_data, noise, torch.Generator().manual_seed(0)))
    levels = (-4.0 + 0.5 * torch.randn(4, generator=torch.Generator().manual_seed(0))).exp()
    assert passed == pytest.approx(float((1 + levels.square() / sigma_data**2).mean()), rel=0.02)


def test_levels_are_those_of_the_mixture() -> None:
    stems = torch.randn(2, 3, 1000) * torch.tensor([1e-2, 3.0])[:, None, None]
    levelled = at_level(stems, 0.15)
    assert torch.allclose(levelled.sum(1).square().mean(-1).sqrt(), torch.tensor([0.15, 0.15]))
    assert torch.allclose(levelled[0] / stems[0], (levelled[0] / stems[0]).mean())
    assert at_level(torch.zeros(1, 3, 10), 0.15).abs().max() == 0


def test_validation_needs_nothing_but_the_songs(mini_set: Path) -> None:
    found = experiment("stemline_small_isdm").smoke()
    stage, average = found.build(Sources(validation=mini_set / "val"))
    first, again = stage.validate(average), stage.validate(average)
    assert first == again
    assert set(first) <= {*found.stems, "mean"}
