"""Diff-VS from its loss to a bounce by the server: the loss's own formula, its data, its runs, its sweep of rho."""

import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli_tools import Home
from torch import Tensor

from pyserver.models import catalogue
from pyserver.models.diff_vs import DiffVSModel
from training import sweep_rho
from training.cards import BadInput
from training.data.pool import CropConfig, StemPool, draw_crop
from training.diff_vs_experiment import Balance, DiffVSExperiment, NoiseLevels, vocals_loss
from training.experiments.experiment import Sources
from training.experiments.registry import experiment
from training.export import Arguments as Export
from training.export import export
from training.parallel import World
from training.sweep import TunesOnTest
from training.train import Arguments, run_stage


def small() -> DiffVSExperiment:
    found = experiment("stemline_small_diff_vs").smoke()
    assert isinstance(found, DiffVSExperiment)
    return found


@pytest.fixture(scope="module")
def sung(mini_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs with vocals (their pianos), and one in training that has none."""
    root = tmp_path_factory.mktemp("sung") / "songs"
    shutil.copytree(mini_set, root, ignore=shutil.ignore_patterns(".*"))
    for song in ("train/Track00000", "val/Track00000"):
        (root / song / "piano.flac").rename(root / song / "vocals.flac")
    return root


def stems(items: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(items, 2, 2, 8192, generator=torch.Generator().manual_seed(seed))


def test_levels_are_drawn_as_karras_draws_them() -> None:
    sigma = NoiseLevels().draw(40_000, torch.Generator().manual_seed(0)).log()
    assert (sigma.mean().item(), sigma.std().item()) == pytest.approx((-1.2, 1.2), abs=0.03)
    assert experiment("diff_vs_musdb").levels == NoiseLevels()  # type: ignore[attr-defined]


def test_the_loss_of_a_silent_network_is_the_formula_written_out() -> None:
    """F = 0, so D = skip·x: lambda·mean over bands of (skip·(y + sigma·n) - y)², in numpy."""
    network, levels = small().network, NoiseLevels()
    model, batch = DiffVSModel(network).eval(), stems(3)
    found = vocals_loss(model, batch, levels, torch.Generator().manual_seed(5)).item()

    draw = torch.Generator().manual_seed(5)
    peak = batch.sum(1).abs().amax((1, 2))[:, None, None]
    clean = model.encode(batch[:, 0] / peak).double().numpy()
    sigma = np.exp(-1.2 + 1.2 * torch.randn(3, generator=draw).double().numpy())[:, None, None, None]
    noise = torch.randn(clean.shape, generator=draw).double().numpy()
    error = (0.25 / (sigma**2 + 0.25) * (clean + sigma * noise) - clean) ** 2
    widths = [width for count, width in network.bands for _ in range(count)]
    edges = np.cumsum([0, *widths])
    by_band = np.stack([error[:, :, low:high].mean((1, 2, 3)) for low, high in itertools.pairwise(edges)])
    weight = ((sigma**2 + 0.25) / (sigma * 0.5) ** 2)[:, 0, 0, 0]
    assert found == pytest.approx(float((weight * by_band.mean(0)).mean()), rel=1e-4)


def test_the_loss_falls_when_one_batch_is_learnt() -> None:
    torch.manual_seed(0)
    model, batch, levels = DiffVSModel(small().network), stems(2)[..., :4096], NoiseLevels(log_mean=0.0)
    optimiser = torch.optim.Adam(model.generator.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = vocals_loss(model, batch, levels, torch.Generator().manual_seed(1))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_vocals_are_as_loud_as_drawn_and_sometimes_silent() -> None:
    batch = stems(400) * torch.tensor([0.3, 1.0])[:, None, None]
    out = Balance(low_db=-9, high_db=3, silent_chance=0.25)(batch, torch.Generator().manual_seed(0))
    assert torch.equal(out[:, 1], batch[:, 1])
    vocals, rest = (out[:, index].square().mean((1, 2)) for index in (0, 1))
    sounding = vocals > 0
    assert 0.2 < 1 - sounding.float().mean() < 0.3
    db = 10 * (vocals / rest)[sounding].log10()
    assert -9.01 < db.min() < -8.5
    assert 2.5 < db.max() < 3.01
    quiet = torch.cat([1e-4 * batch[:1, :1], batch[:1, 1:]], dim=1)
    lifted = Balance(low_db=0, high_db=0, silent_chance=0)(quiet, torch.Generator())
    assert torch.allclose(lifted[:, 0], 8 * quiet[:, 0])


def test_a_stem_is_drawn_from_songs_that_have_it_where_that_is_asked_for(sung: Path) -> None:
    pool = StemPool(sung / "train", ("vocals", "other"))
    assert {stem: len(tracks) for stem, tracks in pool.with_stem.items()} == {"vocals": 1, "other": 2}

    def silent(only_present: bool) -> int:
        crop = CropConfig(samples=4 * 44100, remix=1.0, repitch=0.0, min_active_stems=0, only_present=only_present)
        return sum(not draw_crop(pool, crop, np.random.default_rng(seed))[0].any() for seed in range(40))

    assert silent(only_present=True) == 0
    assert 10 < silent(only_present=False) < 30


def test_band_statistics_are_those_of_the_training_songs(sung: Path) -> None:
    found = small()
    sources = Sources(validation=sung / "val", training=sung / "train")
    (first, average), (second, _) = found.build(sources), found.build(sources)
    one, two, kept = (
        module.get_buffer("statistics.vocals_rms_K") for module in (first.trained, second.trained, average)
    )
    assert (one != 1).any()
    assert torch.equal(one, two)
    assert torch.equal(one, kept)
    without, _ = found.build(Sources(validation=sung / "val"))
    assert torch.equal(without.trained.get_buffer("statistics.vocals_rms_K"), torch.ones_like(one))


@pytest.fixture(scope="module")
def run(sung: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "generator"
    arguments = {"experiment": "stemline_small_diff_vs", "smoke": True, "data": sung, "out": out, "device": "cpu"}
    assert run_stage(Arguments(**arguments, threads=1, tensorboard=False), World()) == 4  # type: ignore[arg-type]
    return out


def test_a_run_is_validated_with_every_number_of_steps(run: Path) -> None:
    figures = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]["validation"]
    assert set(figures) == {"1 steps", "2 steps", "mean"}
    assert all(math.isfinite(value) for value in figures.values())
    assert figures["mean"] == max(figures["1 steps"], figures["2 steps"])


@pytest.mark.timeout(280)
def test_rho_is_swept_and_the_server_bounces_with_the_best(run: Path, sung: Path, tmp_path: Path) -> None:
    first = export(Export(separator=run, out=tmp_path / "first" / "diff-vs", name="diff-vs", title="Diff-VS"))
    assert first.card.refiner is not None
    assert (first.card.refiner.kind, first.card.refiner.default_steps, first.card.refiner.rho) == ("heun", 7, 7.0)
    assert first.card.window_samples == 6 * 44100

    where = {"data": sung / "val", "model": str(first.directory), "seconds": 4.5, "json": tmp_path / "rho.json"}
    arguments = sweep_rho.Arguments(**where, rho=(2.0, 7.0), steps=(1, 3))  # type: ignore[arg-type]
    sweep_rho.main(arguments)
    swept = json.loads((tmp_path / "rho.json").read_text())
    costs = [(point["kind"], point["steps"], point["evaluations"]) for point in swept["points"]]
    # with one step rho decides nothing, nor does the method
    assert costs == [("edm", 1, 1), ("edm", 3, 3), ("edm", 3, 3), ("heun", 3, 5), ("heun", 3, 5)]
    heun = {p["rho"]: p["si_sdr_i"]["mean"] for p in swept["points"] if p["kind"] == "heun"}
    assert len(set(heun.values())) == 2
    best_point = max((p for p in swept["points"] if p["steps"] == 3), key=lambda p: p["si_sdr_i"]["mean"])
    assert {key: best_point[key] for key in swept["best"]} == swept["best"]

    best = export(
        Export(separator=run, out=tmp_path / "models" / "diff-vs", name="diff-vs", sampler=tmp_path / "rho.json")
    )
    assert best.card.refiner is not None
    assert (best.card.refiner.kind, best.card.refiner.default_steps) == (swept["best"]["kind"], 3)
    assert best.card.refiner.rho == swept["best"]["rho"]
    source = sung / "val" / "Track00000" / "vocals.flac"
    home = Home(tmp_path / "home", tmp_path / "models")
    result = home.run("bounce", source, "-o", tmp_path / "out", "--cpu", "--model", "diff-vs", "--steps", 2)
    assert result.returncode == 0, result.stderr
    told = home.run("models", "info", "diff-vs").stdout
    cost = f"{swept['best']['kind']}, 3 by default ({swept['best']['evaluations']} network evaluations)"
    assert cost in told
    where = tmp_path / "out" / "vocals"
    parts = {path.stem: soundfile.read(path, always_2d=True)[0] for path in where.glob("*.wav")}
    mixture = soundfile.read(source, always_2d=True)[0]
    assert set(parts) == {"vocals", "other", "residual"}
    assert np.abs(sum(parts.values()) - mixture).max() < 1e-6
    loudest = max(np.abs(part).max() for part in parts.values())  # vocals of so short a training are loud
    assert np.abs(parts["residual"]).max() < 2e-5 * loudest


def test_what_cannot_be_swept_or_exported_says_why(run: Path, sung: Path, tmp_path: Path, tiny_models: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(BadInput, match="sweep_rho"):
        export(Export(separator=run, out=tmp_path / "model", sampler=tmp_path / "bad.json"))
    with pytest.raises(BadInput, match="no refiner beside it"):
        export(Export(separator=run, refiner=run, out=tmp_path / "model"))
    with pytest.raises(sweep_rho.NotGenerative, match=r"training\.sweep"):
        sweep_rho.sweep(sweep_rho.Arguments(data=sung / "val", model=str(tiny_models / "stemline-small")))
    (tmp_path / "test").symlink_to(sung / "val")
    with pytest.raises(TunesOnTest):
        sweep_rho.sweep(sweep_rho.Arguments(data=tmp_path / "test", model=str(tmp_path)))
    with pytest.raises(ValueError, match="rho above 0"):
        sweep_rho.Arguments(data=sung, model="m", rho=(0.0,))
    assert not (tmp_path / "model" / catalogue.CARD_FILE).exists()
