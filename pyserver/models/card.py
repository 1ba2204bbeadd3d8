"""The ModelCard: everything the server must know of a model without opening its weights. Needs no torch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pyserver.diffusion.cost import network_evaluations

WITHOUT_SEPARATOR = ("diff_vs",)
"""Architectures whose "refiner" samples from noise alone."""
SAMPLERS = ("consistency", "consistency_textbook", "edm", "heun")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinerSettings:
    """How the refiner of a model is run when the user does not say otherwise.

    `sigma_max` holds one starting noise level for each step count that was tuned (key: number of steps), in the unit
    of the waveform at `reference_rms`, or of a generative model's own domain; `kind` names the sampler in
    `pyserver.diffusion.samplers`: "consistency" (as published), "consistency_textbook", "edm" or "heun".
    """

    kind: str
    default_steps: int
    sigma_max: Mapping[int, float]
    sigma_min: float
    rho: float
    corrections: int = 1
    churn: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in SAMPLERS:
            raise ValueError(f"there is no sampler {self.kind!r}, only {', '.join(SAMPLERS)}")

    def sigma_max_for(self, steps: int) -> float:
        """The tuned level for `steps`, or that of the nearest step count that was tuned."""
        return self.sigma_max[min(self.sigma_max, key=lambda tuned: (abs(tuned - steps), tuned))]


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkSettings:
    """How a joint prior is sampled when the user does not say otherwise; levels in the unit of the waveform at
    `reference_rms`. Fewer steps than `fewest_steps` give nothing worth hearing, so they are not taken.

    `solver` makes the steps of a separation: "euler", as published, or "exponential" (`diffusion.exponential`), which
    few steps do not make diverge. A separation is the mean of `draws` samples: each has the posterior's whole variance
    for its error, on top of the mean's own."""

    default_steps: int
    sigma_min: float
    sigma_max: float
    rho: float
    corrections: int = 1
    churn: float = 0.0
    fewest_steps: int = 1
    solver: str = "euler"
    draws: int = 1

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"a mean is of one sample at least, not of {self.draws}")
        if self.solver not in ("euler", "exponential"):
            raise ValueError(f'no solver is called "{self.solver}", only euler and exponential')
        if not 1 <= self.fewest_steps <= self.default_steps:
            raise ValueError(f"{self.default_steps} steps by default, at least {self.fewest_steps}: one at least")

    def evaluations(self, steps: int) -> int:
        """How often the network is asked for one window."""
        return steps * self.corrections * self.draws


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSettings:
    """A joint prior over the stems: `separation` walks by the `posterior` that is named.

    "dirac": what the other stems leave of the mixture is `constrained_stem`; "gaussian": the mixture is met up to noise
    of `coefficient` times sigma; "projected": the denoised stems sum to the mixture. `generation` is None for a prior
    that is not for generating, and `accompanies` says whether what is generated goes with the stems that are given (it
    cannot where every stem has a network of its own).
    One that is for generating only says that it does not separate.
    """

    separation: WalkSettings
    posterior: str
    constrained_stem: str = ""
    coefficient: float = 0.0
    generation: WalkSettings | None = None
    accompanies: bool = False
    separates: bool = True

    def __post_init__(self) -> None:
        if self.posterior not in ("dirac", "gaussian", "projected"):
            raise ValueError(f'no posterior is called "{self.posterior}", only dirac, gaussian and projected')
        if self.posterior == "projected" and self.separation.solver != "exponential":
            raise ValueError("the projected posterior is for the exponential solver")
        if self.generation is not None and self.generation.draws != 1:
            raise ValueError("the mean of several pieces of music is none")
        if self.posterior == "gaussian" and self.coefficient <= 0:
            raise ValueError(f"the Gaussian posterior's coefficient is {self.coefficient}, which is not positive")
        if self.accompanies and self.generation is None:
            raise ValueError("a prior that accompanies also generates")
        if not self.separates and self.generation is None:
            raise ValueError("a prior that does not separate generates")


CARD_VERSION = 3
"""Version 1 knows neither `version` nor `prior`, and versions of Stemline that only know it refuse the fields: a card
without a prior is still written as version 1. Version 2 knows no `solver`."""


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
    prior: PriorSettings | None = None

    def __post_init__(self) -> None:
        if self.window_samples <= 2 * (self.margin_samples + self.fade_samples):
            raise ValueError(f"model card {self.name}: margins and fades leave nothing of a window")
        if set(self.sha256) != set(self.weights):
            raise ValueError(f"model card {self.name}: sha256 must name exactly the weight files")
        if self.prior is not None:
            self._check_prior(self.prior)

    def _check_prior(self, prior: PriorSettings) -> None:
        if self.refiner is not None or self.channels != 1:
            raise ValueError(f"model card {self.name}: a joint prior is mono and has no refiner")
        if prior.posterior == "dirac" and prior.constrained_stem not in self.stems:
            raise ValueError(f'model card {self.name}: no stem is called "{prior.constrained_stem}"')

    @property
    def abilities(self) -> tuple[str, ...]:
        """What the model can do, of "separate", "refine", "generate" and "accompany"."""
        prior = self.prior
        can = {
            "separate": prior is None or prior.separates,
            "refine": self.refiner is not None,
            "generate": prior is not None and prior.generation is not None,
            "accompany": prior is not None and prior.accompanies,
        }
        return tuple(ability for ability, able in can.items() if able)

    @property
    def default_steps(self) -> int:
        """Of the refiner, or of a prior's sampler."""
        if self.prior is not None:
            return self.prior.separation.default_steps
        return self.refiner.default_steps if self.refiner else 0

    def steps_for(self, asked: int | None) -> int:
        """What is done when `asked` steps are asked for (None: nothing is said): none without a refiner, and with a
        prior at least as many as make sense."""
        if asked is None:
            return self.default_steps
        if self.prior is not None:
            return max(asked, self.prior.separation.fewest_steps)
        return asked if self.refiner else 0

    def generation_steps_for(self, asked: int | None) -> int:
        """As `steps_for`, of a walk that generates or accompanies; 0 where the model can do neither."""
        walk = self.prior.generation if self.prior else None
        if walk is None:
            return 0
        return walk.default_steps if asked is None else max(asked, walk.fewest_steps)

    def evaluations(self, steps: int) -> int:
        """Network evaluations for one window: the separator and its refiner, or what samples without one."""
        if self.prior is not None:
            return self.prior.separation.evaluations(steps)
        if self.refiner is None or not steps:
            return 1
        separator = 0 if self.architecture in WITHOUT_SEPARATOR else 1
        return separator + network_evaluations(self.refiner.kind, steps, self.refiner.corrections)

    @property
    def weights_sha256(self) -> str:
        """One identity for all the weight files, in the order in which they are merged."""
        return "+".join(self.sha256[name] for name in self.weights)

    def to_json(self) -> str:
        raw = asdict(self)
        if self.prior is None:
            del raw["prior"]
        else:
            raw = {"version": CARD_VERSION, "abilities": self.abilities, **raw}
        return json.dumps(raw, indent=1, sort_keys=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """Raises ValueError for cards of a later version, with unknown fields, or that contradict themselves."""
        raw = json.loads(text)
        version, abilities = raw.pop("version", 1), raw.pop("abilities", None)
        if version > CARD_VERSION:
            raise ValueError(f"model card of version {version}, this Stemline knows up to {CARD_VERSION}: update it")
        unknown = set(raw) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"model card has fields this version does not know: {', '.join(sorted(unknown))}")
        refiner = raw.get("refiner")
        if refiner is not None:
            refiner["sigma_max"] = {int(steps): sigma for steps, sigma in refiner["sigma_max"].items()}
            raw["refiner"] = RefinerSettings(**refiner)
        if raw.get("prior") is not None:
            raw["prior"] = prior_settings(raw["prior"])
        card = cls(**{**raw, "stems": tuple(raw["stems"]), "weights": tuple(raw["weights"])})
        if abilities is not None and set(abilities) != set(card.abilities):
            raise ValueError(f"model card {card.name} claims {abilities}, its settings are for {card.abilities}")
        return card

    @classmethod
    def load(cls, path: Path) -> "ModelCard":
        return cls.from_json(path.read_text(encoding="utf-8"))


def prior_settings(raw: Mapping[str, Any]) -> PriorSettings:
    """Out of what `asdict` made of them."""
    generation = raw.get("generation")
    return PriorSettings(
        **{
            **raw,
            "separation": WalkSettings(**raw["separation"]),
            "generation": WalkSettings(**generation) if generation else None,
        }
    )
