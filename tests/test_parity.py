"""Our networks, scalings, schedules and samplers are those of the published models; and the replay would notice."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import golden_metric_tree
import golden_prior_tree
import golden_tree
import numpy as np
import parity
import pytest
import torch
from golden_report import Report
from safetensors.torch import load_file, save_file

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = Path(os.environ.get("STEMLINE_GOLDEN", REPOSITORY / "../shared/golden"))

needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"there are no golden vectors at {GOLDEN}; set STEMLINE_GOLDEN to where they are"
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def new_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All backbones in other sizes, in folders whose names say nothing or the wrong thing."""
    root = tmp_path_factory.mktemp("golden")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(11)
        golden_tree.write_unet(root / "bs_roformer")
        golden_tree.write_bs_roformer(root / "deeper" / "x")
        golden_prior_tree.write_msdm(root / "unet")
        golden_metric_tree.write_metrics(root / "scores")
    return root


@pytest.fixture
def copied_tree(new_tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(new_tree, tmp_path / "copy"))


@needs_golden
@pytest.mark.parametrize("case", ["unet", "bs_roformer", "msdm", "metrics", "schedules.npz", "checkpoint_keys.json"])
def test_golden_vectors_are_reproduced(case: str) -> None:
    path = GOLDEN / case
    networks = {"unet": 153, "bs_roformer": 126, "msdm": 72}
    expected = (networks | {"metrics": 55, "schedules.npz": 19, "checkpoint_keys.json": 10})[case]
    report = parity.run(path)
    assert (report.failed, report.not_yet) == (0, 0)
    assert report.passed >= expected


def test_trees_of_other_sizes_are_replayed(new_tree: Path) -> None:
    report = parity.run(new_tree)
    assert report.failed == 0
    assert report.not_yet == 0
    cases = " ".join(report.errors)
    for part in ("bs_roformer/cd_sampler cd3.output", "deeper/x/edm_sampler edm.output", "heun_sampler heun.output"):
        assert part in cases


def test_one_folder_is_a_tree_too(new_tree: Path) -> None:
    alone, whole = parity.run(new_tree / "bs_roformer"), parity.run(new_tree)
    assert alone.failed == 0
    assert 0 < alone.passed < whole.passed


def perturb_weight(folder: Path, file: str, key: str) -> None:
    tensors = load_file(folder / file)
    tensors[key].view(-1)[0] += 0.05
    save_file(tensors, folder / file)


def failures(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Report, str]:
    report = parity.run(root)
    return report, "\n".join(line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL"))


@pytest.mark.parametrize(
    ("file", "key", "case"),
    [
        ("separator.safetensors", "model.unet.to_in.module_list.0.block.block1.project.bias", "det_io output"),
        ("cd.safetensors", "net.model.unet.to_mapping.2.bias", "cd_io s1.raw_F"),
        ("cd.safetensors", "target_model.model.unet.to_mapping.2.bias", "cd_io s1.target_model_denoised"),
    ],
)
def test_a_wrong_weight_is_noticed(
    copied_tree: Path, capsys: pytest.CaptureFixture[str], file: str, key: str, case: str
) -> None:
    perturb_weight(copied_tree / "bs_roformer", file, key)
    report, lines = failures(copied_tree, capsys)
    assert report.failed > 0
    assert f"bs_roformer/{case} " in lines
    assert "deeper/x" not in lines


@pytest.mark.parametrize(
    ("file", "key", "cases"),
    [
        ("msdm", "model.unet.to_mapping.2.bias", ("msdm_dirac.output", "msdm_gaussian.output", "impute.output")),
        ("isdm", "1.model.unet.to_mapping.2.bias", ("isdm_dirac.nfe03.denoised", "isdm_dirac.output")),
    ],
)
def test_a_wrong_weight_of_a_prior_is_noticed(
    copied_tree: Path, capsys: pytest.CaptureFixture[str], file: str, key: str, cases: tuple[str, ...]
) -> None:
    perturb_weight(copied_tree / "unet", f"{file}.safetensors", key)
    _, lines = failures(copied_tree / "unet", capsys)
    assert all(f"unet/io {case} " in lines for case in cases)
    assert ("isdm" in lines) == (file == "isdm")


@pytest.mark.parametrize("name", ["msdm_dirac.draws", "isdm_dirac.source_id", "msdm_gaussian.gamma", "impute.mask"])
def test_a_run_with_other_draws_or_settings_is_noticed(
    copied_tree: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = copied_tree / "unet" / "io.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[name] = 1 - arrays[name] if arrays[name].dtype.kind != "f" or "mask" in name else arrays[name] * 1.01
    np.savez(path, **arrays)
    _, lines = failures(copied_tree / "unet", capsys)
    run = name.split(".")[0]
    assert f"unet/io {run}.output " in lines
    assert all(f"unet/io {run}." in line for line in lines.splitlines())


@pytest.mark.parametrize(
    ("folder", "file", "name", "case"),
    [
        ("bs_roformer", "diffusion_io", "dsm_loss", "diffusion_io dsm_loss"),
        ("bs_roformer", "cd_loss", "step.consistency_loss_per_example", "cd_loss step.consistency_loss_per_example"),
        ("bs_roformer", "cd_loss", "ema.after.model.unet.to_mapping.0.weight", "cd_loss ema.after"),
        ("deeper/x", "det_io", "det_loss_l1_plus_mrstft", "det_io det_loss_l1_plus_mrstft"),
        ("deeper/x", "diffusion_io", "dsm_bsroformer.loss", "diffusion_io dsm_bsroformer.loss"),
        ("deeper/x", "cd_loss", "step.total_weight_0.5", "cd_loss step.total_weight_0.5"),
        ("scores", "msdm_metrics", "filtered.si_sdr_improvement", "msdm_metrics.npz filtered.si_sdr_improvement"),
        (
            "scores",
            "refiner_metrics",
            "include_silent.vocals.si_snr",
            "refiner_metrics.npz include_silent.vocals.si_snr",
        ),
        ("scores", "refiner_metrics", "silent_frames.drums.SAR", "refiner_metrics.npz silent_frames.drums.SAR"),
    ],
)
def test_a_wrong_loss_or_score_is_noticed(
    copied_tree: Path, capsys: pytest.CaptureFixture[str], folder: str, file: str, name: str, case: str
) -> None:
    path = copied_tree / folder / f"{file}.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[name] = arrays[name] * np.float32(1.001)
    np.savez(path, **arrays)
    report, lines = failures(copied_tree / folder, capsys)
    assert report.failed == 1
    assert f"{case} " in lines or f"{case}." in lines


def change_config(folder: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def test_a_config_that_does_not_fit_the_weights_fails_its_folder_only(
    copied_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(copied_tree / "deeper" / "x", lambda c: c["config"]["deterministic"].update(depth=4))
    report, lines = failures(copied_tree, capsys)
    assert report.failed == 1
    assert "deeper/x " in lines
    assert "Missing key" in lines


def test_unknown_kinds_and_empty_trees_fail(copied_tree: Path, tmp_path: Path) -> None:
    change_config(copied_tree / "deeper" / "x", lambda c: c.update(backbone="transformer"))
    assert parity.run(copied_tree).failed == 1
    (tmp_path / "empty").mkdir()
    assert parity.run(tmp_path / "empty").failed == 1


def test_nan_is_over_any_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.compare("case", torch.tensor([0.0, float("nan")]), torch.zeros(2), 1e9)
    report.compare("shape", torch.zeros(3), torch.zeros(2), 1e9)
    assert (report.passed, report.failed) == (0, 2)


def test_the_command_says_by_its_exit_code_whether_all_is_well(copied_tree: Path) -> None:
    folder = copied_tree / "deeper" / "x"
    command = [sys.executable, str(REPOSITORY / "tests" / "parity.py"), str(folder)]
    good = subprocess.run(command, cwd=copied_tree, capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "0 failed" in good.stdout
    perturb_weight(folder, "diffusion-1.safetensors", "model.unet.band_split.to_features.0.0.gamma")
    bad = subprocess.run(command, cwd=copied_tree, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "FAIL     x/diffusion_io raw_F " in bad.stdout
