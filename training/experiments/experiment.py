"""What an experiment is: everything that decides a run but the songs, and how it shrinks to seconds on a CPU."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from safetensors.torch import load_file
from torch import Tensor, nn

from training.loop import Stage, TrainConfig
from training.runs import finished_weights
from training.validation import ValidationConfig, ValidationSet

SMOKE_STEPS = 4
PARTS = ("separator.", "refiner.")


class MissingRun(ValueError):
    """An experiment builds upon another one's run, which was not named."""

    def __init__(self, experiment: str, part: str) -> None:
        super().__init__(f"{experiment} builds upon a {part}: name its run, or a model's folder, by --{part}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Songs to validate with, those of training (to be measured), and the runs or models that a stage starts from."""

    validation: Path
    training: Path | None = None
    separator: Path | None = None
    refiner: Path | None = None

    def part_of(self, experiment: str, part: str) -> dict[str, Tensor]:
        """Weights of the separator or the refiner. Raises MissingRun, and RunMismatch where there are none."""
        folder: Path | None = getattr(self, part)
        if folder is None:
            raise MissingRun(experiment, part)
        return weights_in(folder, part)


def weights_in(folder: Path, part: str) -> dict[str, Tensor]:
    """Out of a run's folder, or out of a model's, which has a card. A model, and a run that trained both parts
    together, has them side by side; else a run's weights are those of the part that it trained. No part: all."""
    is_model = (folder / "card.json").is_file()
    files = sorted(folder.glob("*.safetensors")) if is_model else [finished_weights(folder)]
    weights = {key: value for path in files for key, value in load_file(path).items()}
    if not part or (not is_model and not all(key.startswith(PARTS) for key in weights)):
        return weights
    return {key.removeprefix(f"{part}."): value for key, value in weights.items() if key.startswith(f"{part}.")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment(ABC):
    """A complete configuration. `stems` in the order of the network's outputs."""

    name: str
    train: TrainConfig
    stems: tuple[str, ...]
    sample_rate_hz: int = 44100
    channels: int = 2
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    @abstractmethod
    def build(self, sources: Sources) -> tuple[Stage, nn.Module]:
        """The stage, and the average that starts as a copy of what is trained."""

    @abstractmethod
    def network_settings(self) -> dict[str, Any]:
        """What `registry.build(architecture, settings)` takes: {"architecture": ..., "network": ...}."""

    @abstractmethod
    def smaller(self) -> Self:
        """With a network that trains in milliseconds, and crops that are just long enough for it."""

    def smoke(self) -> Self:
        """The same stages and code in seconds on a CPU, to see that all of it runs."""
        small = self.smaller()
        recipe = replace(small.train.optimiser, warmup_steps=1, decay_steps=1)
        train = replace(
            small.train,
            steps=SMOKE_STEPS,
            batch_size=2,
            micro_batch=1,
            optimiser=recipe,
            save_every=2,
            validate_every=SMOKE_STEPS,
        )
        return replace(small, train=train, validation=ValidationConfig(songs=1, seconds=2.0))

    def validation_set(self, folder: Path) -> ValidationSet:
        return ValidationSet(folder, self.stems, self.sample_rate_hz, self.channels, self.validation)

    def about(self) -> dict[str, Any]:
        """What a run's config.json says beside the settings of the loop."""
        own = {"experiment": self.name, "stems": self.stems, "sample_rate_hz": self.sample_rate_hz}
        return {**own, "channels": self.channels, **self.network_settings()}
