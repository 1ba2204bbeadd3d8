"""Small untrained models of every architecture that ONNX Runtime can have, installed and exported for real."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from checkpoint_parts import SMALL
from safetensors.torch import save_file

from pyserver.engine.messages import Audio, SeparationSettings, WindowRequest
from pyserver.models import catalogue, registry
from pyserver.models.card import ModelCard

BAND_SPLIT = "stemline-small"
MODELS = (BAND_SPLIT, "unet", "roformer")


def install(root: Path, tiny: Path) -> None:
    """A folder of models for STEMLINE_MODELS; `tiny` is that of the fixture `tiny_model_dir`."""
    shutil.copytree(tiny / BAND_SPLIT, root / BAND_SPLIT)
    like = ModelCard.load(tiny / BAND_SPLIT / "card.json")
    for name, architecture, channels, stems in (
        ("unet", "dicose_unet", 1, 3),
        ("roformer", "dicose_bs_roformer", 2, 3),
    ):
        config = {"separator": SMALL[architecture], "refiner": SMALL[architecture], "sigma_data": 0.2}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            network = registry.build(architecture, config)
        folder = root / name
        folder.mkdir()
        save_file({key: value.clone() for key, value in network.state_dict().items()}, folder / "w.safetensors")
        card = replace(
            like,
            name=name,
            architecture=architecture,
            config=config,
            channels=channels,
            stems=like.stems[:stems],
            sample_rate_hz=22050 if channels == 1 else 44100,
            weights=("w.safetensors",),
            sha256={"w.safetensors": catalogue.sha256_of(folder / "w.safetensors")},
        )
        (folder / "card.json").write_text(card.to_json())


def export(name: str, *more: str) -> "subprocess.CompletedProcess[str]":
    """The real command; the catalogue is found by this process's environment."""
    command = [sys.executable, "-m", "pyserver", "models", "export-onnx", name, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def window(model: str, samples: int = 24576, *, channels: int = 2, rate: int = 44100, seed: int = 0) -> WindowRequest:
    rng = np.random.default_rng(seed)
    audio: Audio = (rng.standard_normal((channels, samples)) * 0.1).astype(np.float32)
    return WindowRequest(model, audio, rate, 512, (0, samples), SeparationSettings(1, 7))
