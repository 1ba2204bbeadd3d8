"""The ModelCard: everything the server must know of a model without opening its weights. Needs no torch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinerSettings:
    """How the refiner of a model is run when the user does not say otherwise.

    `sigma_max` holds one starting noise level for each step count that was tuned (key: number of steps), in the unit
    of the waveform at `reference_rms`; `kind` names the sampler in `pyserver.diffusion.samplers`.
    """

    kind: str  # "consistency" (as published), "consistency_textbook" or "edm"
    default_steps: int
    sigma_max: Mapping[int, float]
    sigma_min: float
    rho: float
    corrections: int = 1
    churn: float = 0.0

    def sigma_max_for(self, steps: int) -> float:
        """The tuned level for `steps`, or that of the nearest step count that was tuned."""
        return self.sigma_max[min(self.sigma_max, key=lambda tuned: (abs(tuned - steps), tuned))]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """JSON beside the weights. Lengths are in samples at `sample_rate_hz`."""

    name: str
    title: str
    architecture: str  # key of pyserver.models.registry
    config: Mapping[str, Any]  # what the architecture's constructor takes
    stems: tuple[str, ...]
    sample_rate_hz: int
    channels: int
    window_samples: int
    margin_samples: int  # context at each edge of a window that is computed and thrown away
    fade_samples: int  # cross-fade between neighbouring windows
    live_window_samples: int
    live_lookahead_samples: int
    reference_rms: float  # every window is brought to this level before the networks and back after them
    complete: bool  # the stems account for the whole mixture, so what they miss is shared among them
    refiner: RefinerSettings | None
    licence: str
    weights: tuple[str, ...]  # file names beside the card, merged
    sha256: Mapping[str, str]  # of each weight file
    training_data: str = ""
    quality: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""

    def __post_init__(self) -> None:
        if self.window_samples <= 2 * (self.margin_samples + self.fade_samples):
            raise ValueError(f"model card {self.name}: margins and fades leave nothing of a window")
        if set(self.sha256) != set(self.weights):
            raise ValueError(f"model card {self.name}: sha256 must name exactly the weight files")

    @property
    def weights_sha256(self) -> str:
        """One identity for all the weight files, in the order in which they are merged."""
        return "+".join(self.sha256[name] for name in self.weights)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        raw = json.loads(text)
        unknown = set(raw) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"model card has fields this version does not know: {', '.join(sorted(unknown))}")
        refiner = raw.get("refiner")
        if refiner is not None:
            refiner["sigma_max"] = {int(steps): sigma for steps, sigma in refiner["sigma_max"].items()}
            raw["refiner"] = RefinerSettings(**refiner)
        return cls(**{**raw, "stems": tuple(raw["stems"]), "weights": tuple(raw["weights"])})

    @classmethod
    def load(cls, path: Path) -> "ModelCard":
        return cls.from_json(path.read_text(encoding="utf-8"))
