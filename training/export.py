"""From finished runs to what the server loads: safetensors, card and checksum.

python -m training.export --separator runs/separator --refiner runs/consistency --out released/stemline-small
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from safetensors.torch import save_file

from pyserver.models.band_split import BandSplitModel
from pyserver.models.card import ModelCard, RefinerSettings
from training.experiments.stemline_small import MODEL, STEMS, load_model

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    separator: Path
    """Run of the separator."""
    refiner: Path
    """Run of the distilled refiner."""
    out: Path
    sigma_max: float = 0.03
    """The refiner's starting level, chosen on validation data."""
    training_data: str = ""
    quality: Path | None = None
    """JSON that `training.evaluate --json` wrote."""


def card_of_small(arguments: Arguments, sha256: str) -> ModelCard:
    """Windows are long enough that the network's reach fits into the margins."""
    quality: dict[str, Any] = json.loads(arguments.quality.read_text()) if arguments.quality else {}
    return ModelCard(
        name="stemline-small",
        title="Stemline small: bass, drums, guitar, piano, other",
        architecture="band_split",
        config=asdict(MODEL),
        stems=STEMS,
        sample_rate_hz=44100,
        channels=2,
        window_samples=441000,
        margin_samples=44100,
        fade_samples=11025,
        live_window_samples=132300,
        live_lookahead_samples=11025,
        reference_rms=1.0,
        complete=True,
        refiner=RefinerSettings(
            kind="consistency",
            default_steps=1,
            sigma_max={1: arguments.sigma_max},
            sigma_min=MODEL.sigma_min,
            rho=9.0,
        ),
        licence="GPL-3.0-or-later",
        weights=(WEIGHTS,),
        sha256={WEIGHTS: sha256},
        training_data=arguments.training_data,
        quality=quality,
    )


def main(arguments: Arguments) -> None:
    model = BandSplitModel(MODEL)
    load_model(arguments.separator, "separator", model)
    load_model(arguments.refiner, "refiner", model)
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights = arguments.out / WEIGHTS
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
    card = card_of_small(arguments, hashlib.sha256(weights.read_bytes()).hexdigest())
    (arguments.out / "card.json").write_text(card.to_json(), encoding="utf-8")
    print(f"{weights}: {weights.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
