"""Fixtures shared by the Python tests. Nothing here needs the network, a GPU or a trained model."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from service_support import RunningServer

# Tests run beside each other and on small machines; results do not depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs with Ctrl-C ignored, and programs hand that on: those that are tested must hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)

TINY_STEMS = ("bass", "drums", "guitar", "piano", "other")


def _write_tiny_model(directory: Path, name: str, seed: int) -> None:
    """A real but untrained band-split model, small enough to separate a second of audio in a few milliseconds."""
    import torch
    from safetensors.torch import save_file

    from pyserver.models import catalogue, registry
    from pyserver.models.card import ModelCard, RefinerSettings

    config = {
        "stems": len(TINY_STEMS),
        "channels": 2,
        "n_fft": 512,
        "hop_length": 256,
        "bands": [[16, 4], [8, 8], [8, 16], [1, 1]],
        "dim": 16,
        "heads": 2,
        "dilations": [1],
        "kernel": 3,
        "head_hidden": 16,
        "refiner_dim": 16,
        "refiner_dilations": [1],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = registry.build("band_split", config)
    directory.mkdir(parents=True)
    weights = directory / "model.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
    card = ModelCard(
        name=name,
        title=f"Untrained stand-in ({name})",
        architecture="band_split",
        config=config,
        stems=TINY_STEMS,
        sample_rate_hz=44100,
        channels=2,
        window_samples=24576,
        margin_samples=2048,
        fade_samples=1024,
        live_window_samples=40960,  # room for long hops, so that a machine in need can hold one
        live_lookahead_samples=1024,
        reference_rms=0.1,
        complete=True,
        refiner=RefinerSettings(kind="consistency", default_steps=1, sigma_max={1: 0.1}, sigma_min=0.0001, rho=7.0),
        licence="none",
        weights=(weights.name,),
        sha256={weights.name: catalogue.sha256_of(weights)},
    )
    (directory / "card.json").write_text(card.to_json(), encoding="utf-8")


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for STEMLINE_MODELS with two untrained models: "stemline-small" (the default) and "tiny-two"."""
    root = tmp_path_factory.mktemp("models")
    _write_tiny_model(root / "stemline-small", "stemline-small", seed=1)
    _write_tiny_model(root / "tiny-two", "tiny-two", seed=2)
    return root


@pytest.fixture
def tiny_models(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `tiny_model_dir`, found by the catalogue of this process and its children; STEMLINE_HOME is a fresh folder."""
    monkeypatch.setenv("STEMLINE_MODELS", str(tiny_model_dir))
    monkeypatch.setenv("STEMLINE_HOME", str(tmp_path / "home"))
    return tiny_model_dir


@pytest.fixture(scope="session")
def mini_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Freshly rendered songs: `train` and `val` in our own layout."""
    from mini_songs import write_mini_set

    return write_mini_set(tmp_path_factory.mktemp("songs"))


@pytest.fixture(scope="module")
def server(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator["RunningServer"]:
    """A real server with the tiny models, one for each module that has none of its own making."""
    from service_support import running_server

    with running_server(tmp_path_factory.mktemp("server") / "home", tiny_model_dir) as running:
        yield running


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """PEM files of a certificate for localhost that signed itself, and of its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate to test TLS with")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key
