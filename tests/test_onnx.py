"""ONNX Runtime gives what PyTorch gives, for windows of every length, and is never taken for what it is not."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import prior_parts
import pytest
import soundfile
import torch
from checkpoint_parts import SMALL
from onnx_parts import BAND_SPLIT, MODELS, export, install, window
from service_support import running_server, server_env

from pyserver.cli.exits import Exit
from pyserver.engine import onnx_runtime
from pyserver.engine.backend_choice import CHOICES_FILE, Choices, Timed
from pyserver.engine.messages import BackendChoice
from pyserver.engine.onnx_runtime import OnnxRuntimeMissing, Place, Provider, ProviderNotActive
from pyserver.engine.torch_backend import TorchBackend
from pyserver.models import catalogue, registry
from pyserver.models.cores import NoCores
from pyserver.models.onnx_export import export_cores
from pyserver.models.onnx_files import ExportMissing, ExportStale, find_export

pytestmark = pytest.mark.slow
CPU = Place(Provider.CPU, torch.device("cpu"), 1)


@pytest.fixture(scope="module")
def exported(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Small models with an export each, made by the command; its figures are in the state directory of `home`."""
    root = tmp_path_factory.mktemp("onnx")
    (root / "models").mkdir()
    install(root / "models", tiny_model_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEMLINE_MODELS", str(root / "models"))
        patch.setenv("STEMLINE_HOME", str(root / "home"))
        for name in MODELS:
            done = export(name, "--cpu")
            assert done.returncode == 0, done.stderr
            assert "of PyTorch's time" in done.stderr
        yield root


def backend(choice: BackendChoice, measurements: Path | None = None) -> TorchBackend:
    return TorchBackend("cpu", 1, measurements, choice)


@pytest.mark.parametrize("model", MODELS)
def test_stems_are_pytorchs_within_1e_4_for_every_length_rate_and_channel_count(exported: Path, model: str) -> None:
    ours, theirs = backend(BackendChoice.TORCH), backend(BackendChoice.ONNX)
    assert theirs.load(model, measure=False).backend == "onnxruntime-cpu"
    assert theirs.device.backend == "onnxruntime-cpu"
    for request in (
        window(model),
        window(model, 40960, channels=1),
        window(model, 30001, channels=5, seed=1),
        window(model, 26000, rate=48000, seed=2),
    ):
        expected, found = ours.separate([request])[0], theirs.separate([request])[0]
        assert np.abs(expected.stems_SCN - found.stems_SCN).max() < 1e-4 * max(1.0, np.abs(expected.stems_SCN).max())
        assert expected.computed_by == "torch-cpu"
        assert found.computed_by.startswith("onnxruntime-cpu/")


@pytest.mark.parametrize("model", MODELS)
def test_the_same_request_gives_the_same_bits_whatever_was_computed_before(exported: Path, model: str) -> None:
    one, other = backend(BackendChoice.ONNX), backend(BackendChoice.ONNX)
    first = one.separate([window(model)])[0].stems_SCN
    one.separate([window(model, 40960, seed=4)])
    assert np.array_equal(first, one.separate([window(model)])[0].stems_SCN)
    assert np.array_equal(first, other.separate([window(model)])[0].stems_SCN)


def test_what_was_timed_decides_and_is_remembered(exported: Path, tmp_path: Path) -> None:
    measurements = tmp_path / "measurements.json"
    assert backend(BackendChoice.AUTO, measurements).load(BAND_SPLIT, measure=False).backend == "torch-cpu"  # not timed
    found, choices = find_export(catalogue.find(BAND_SPLIT)), Choices(tmp_path / CHOICES_FILE)
    for onnx_s, chosen in ((0.5, "onnxruntime-cpu"), (0.99, "torch-cpu"), (2.0, "torch-cpu"), (0.9, "onnxruntime-cpu")):
        choices.keep(found, CPU, Timed(torch_s=1.0, onnx_s=onnx_s))
        for _ in range(2):
            assert backend(BackendChoice.AUTO, measurements).load(BAND_SPLIT, measure=True).backend == chosen
    assert backend(BackendChoice.TORCH, measurements).load(BAND_SPLIT, measure=False).backend == "torch-cpu"
    (tmp_path / CHOICES_FILE).write_text("{")
    assert backend(BackendChoice.AUTO, measurements).load(BAND_SPLIT, measure=False).backend == "torch-cpu"


def test_the_command_times_both_back_ends_and_keeps_what_it_found(exported: Path) -> None:
    kept = json.loads((exported / "home" / "state" / CHOICES_FILE).read_text())
    assert len(kept) == len(MODELS)
    assert all(entry["torch_s"] > 0 and entry["onnx_s"] > 0 for entry in kept.values())
    before = find_export(catalogue.find(BAND_SPLIT))
    again = export(BAND_SPLIT, "--cpu")
    assert "the export that is there fits" in again.stderr
    assert find_export(catalogue.find(BAND_SPLIT)) == before


def test_an_export_of_other_weights_or_a_damaged_one_is_refused_by_name(exported: Path, tmp_path: Path) -> None:
    installed = catalogue.find(BAND_SPLIT)
    found = find_export(installed)
    manifest = installed.directory / "onnx" / "export.json"
    data, text = found.folder / "separator.onnx.data", manifest.read_text()
    content, onnx = data.read_bytes(), backend(BackendChoice.ONNX)
    try:
        data.write_bytes(content[:-4] + b"\0\0\0\1")
        with pytest.raises(ExportStale, match="is damaged; make it again with: python -m pyserver models export-onnx"):
            onnx.load(BAND_SPLIT, measure=False)
        # Who leaves the choice to us gets PyTorch, and a line in the log.
        choices = Choices(tmp_path / CHOICES_FILE)
        choices.keep(found, CPU, Timed(torch_s=1.0, onnx_s=0.5))
        auto = backend(BackendChoice.AUTO, tmp_path / "measurements.json")
        assert auto.load(BAND_SPLIT, measure=False).backend == "torch-cpu"
        data.write_bytes(content)
        manifest.write_text(text.replace(found.export.source, "0" * 64))
        with pytest.raises(ExportStale, match="other weights"):
            onnx.load(BAND_SPLIT, measure=False)
        for broken in ("{", "[]", '{"graphs": []}', "\x00"):
            manifest.write_text(broken)
            with pytest.raises(ExportStale):
                onnx.load(BAND_SPLIT, measure=False)
    finally:
        data.write_bytes(content)
        manifest.write_text(text)
    assert onnx.load(BAND_SPLIT, measure=False).backend == "onnxruntime-cpu"


def test_a_new_export_leaves_the_one_that_a_running_server_may_have_open(tmp_path: Path) -> None:
    # so many bands that their widths are no small tensor any more
    many = {**SMALL["dicose_bs_roformer"], "depth": 1, "freqs_per_bands": [1] * 33}
    config = {"separator": many, "refiner": None, "sigma_data": 0.2}
    network = registry.build("dicose_bs_roformer", config).eval()
    card = replace(catalogue.find(BAND_SPLIT).card, architecture="dicose_bs_roformer", config=config)
    cores: list[str] = []
    tokens = [export_cores(network, card, tmp_path, cores.append).export.token for _ in range(3)]
    assert cores == ["separator.core"] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*tokens[1:], "export.json"])


def test_what_has_no_export_is_told_which_command_makes_one(tiny_models: Path) -> None:
    with pytest.raises(ExportMissing, match="python -m pyserver models export-onnx tiny-two"):
        backend(BackendChoice.ONNX).load("tiny-two", measure=False)
    assert backend(BackendChoice.AUTO).load("tiny-two", measure=False).backend == "torch-cpu"


def test_a_prior_is_computed_by_pytorch_and_says_so(tiny_models: Path, tmp_path: Path) -> None:
    prior_parts.install(tmp_path / "home" / "models" / "tiny-msdm", prior_parts.CARD)
    with pytest.raises(NoCores, match="computed by PyTorch only"):
        backend(BackendChoice.ONNX).load("tiny-msdm", measure=False)
    assert backend(BackendChoice.AUTO).load("tiny-msdm", measure=False).backend == "torch-cpu"
    done = export("tiny-msdm")
    assert done.returncode == Exit.MODEL_NEEDS_TORCH
    assert "computed by PyTorch only" in done.stderr


def test_without_onnxruntime_all_is_as_before_and_who_insists_is_told(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # what import finds where it is not installed
    with pytest.raises(OnnxRuntimeMissing, match=r'pip install "stemline\[cpu\]"'):
        backend(BackendChoice.ONNX)
    state = exported / "home" / "state" / "measurements.json"
    assert backend(BackendChoice.AUTO, state).load(BAND_SPLIT, measure=False).backend == "torch-cpu"


def test_a_provider_that_is_not_really_there_is_an_error_and_no_silent_fallback() -> None:
    onnx_runtime.proven(CPU)
    for provider in (Provider.CUDA, Provider.TENSORRT):
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
        with pytest.raises(ProviderNotActive, match="cannot use"):
            onnx_runtime.proven(Place(provider, torch.device("cpu"), 1))


def test_threads_of_a_lower_priority_have_a_session_of_their_own(exported: Path) -> None:
    computing = backend(BackendChoice.ONNX)
    expected = computing.separate([window(BAND_SPLIT)])[0].stems_SCN
    found = []

    def lowered() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        found.append(computing.separate([window(BAND_SPLIT)])[0].stems_SCN)

    thread = threading.Thread(target=lowered)
    thread.start()
    thread.join()
    assert np.array_equal(expected, found[0])
    core = computing._loaded(BAND_SPLIT).pipeline.model.get_submodule("separator")
    assert isinstance(core, onnx_runtime.OnnxCore)
    assert set(core._sessions) == {False, True}


def test_a_server_says_what_really_computes_and_gives_the_same_bytes_from_one_run_to_the_next(
    exported: Path, tmp_path: Path
) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, window(BAND_SPLIT, 60000).audio_CN.T, 44100, "FLOAT")
    found = []
    for choice in ("onnx", "onnx", "torch"):
        home = tmp_path / f"home{len(found)}"
        with running_server(home, exported / "models", "--backend", choice) as server:
            assert ("onnxruntime-cpu" if choice == "onnx" else "torch-cpu") in server.ready_line
            assert run(["doctor"], home, exported).stdout.count(
                f"({'onnxruntime' if choice == 'onnx' else 'torch'}-cpu)"
            )
            done = run(["bounce", str(song), "-o", str(home / "stems")], home, exported)
            assert done.returncode == 0, done.stderr
        found.append(soundfile.read(home / "stems" / "song" / "bass.wav", dtype="float32")[0])
    assert np.array_equal(found[0], found[1])
    assert 0 < np.abs(found[0] - found[2]).max() < 1e-4


def test_a_server_that_is_to_use_what_is_not_installed_does_not_start_and_says_why(
    exported: Path, tmp_path: Path
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('not here')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        done = run(["serve", "--cpu", "--backend", "onnx"], tmp_path / "home", exported)
        assert done.returncode == Exit.PACKAGE_MISSING
        assert 'pip install "stemline[cpu]"' in done.stderr
        assert "not installed; PyTorch does it all" in run(["doctor"], tmp_path / "home", exported).stdout


def run(arguments: list[str], home: Path, exported: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pyserver", *arguments]
    env = server_env(home, exported / "models")
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
