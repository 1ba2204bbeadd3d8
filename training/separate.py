"""A model as a function of a whole song, through the same windows, pipeline and overlap-add as the server's."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from pyserver.engine.messages import Audio, SeparationSettings, WindowRequest
from pyserver.engine.pipeline import Pipeline
from pyserver.models import catalogue, registry
from pyserver.models.card import ModelCard
from pyserver.models.interface import AnyModel, ModelHasNoRefiner
from pyserver.separation.overlap import OverlapAdd
from pyserver.separation.windows import Window, WindowShape, plan
from training.cards import BadInput

RATE_HZ = 44100
Separate = Callable[[Audio], Audio]


def cut(song_CN: Audio, window: Window) -> Audio:
    """What the window reads of the song, with silence where it reaches beyond."""
    low, high = max(window.start, 0), min(window.stop, song_CN.shape[-1])
    return np.pad(song_CN[:, low:high], [(0, 0), (low - window.start, window.stop - max(high, low))])


def song_separator(
    pipeline: Pipeline, card: ModelCard, settings: SeparationSettings, rate_hz: int = RATE_HZ
) -> Separate:
    """(C, N) at `rate_hz` → (S, C, N)."""
    shape = WindowShape(card.window_samples, card.margin_samples, card.fade_samples).at_rate(
        card.sample_rate_hz, rate_hz
    )

    def separate(song_CN: Audio) -> Audio:
        stems_SCN = np.zeros((len(card.stems), *song_CN.shape), np.float32)
        overlap = OverlapAdd(shape, song_CN.shape[-1])
        for window in plan(shape, song_CN.shape[-1]):
            keep = window.keep_start - window.start, window.keep_stop - window.start
            request = WindowRequest(card.name, cut(song_CN, window), rate_hz, window.start, keep, settings)
            start, finished = overlap.push(window, pipeline.run(request).stems_SCN)
            stems_SCN[..., start : start + finished.shape[-1]] = finished
        return stems_SCN

    return separate


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model in this process's memory. Several separators share its weights."""

    card: ModelCard
    network: AnyModel
    device: torch.device

    def separator(
        self, refiner_steps: int, seed: int = 0, rate_hz: int = RATE_HZ, sigma_max: float | None = None
    ) -> Separate:
        """With the card's sigma_max for so many steps, or another. Raises ModelHasNoRefiner, and BadInput where a prior
        would take more steps than that."""
        card = self.card
        if refiner_steps and card.refiner is None and card.prior is None:
            raise ModelHasNoRefiner
        if card.steps_for(refiner_steps) != refiner_steps:
            raise BadInput(f"{card.name} takes at least {card.steps_for(0)} steps, not {refiner_steps}: see --steps")
        if sigma_max is not None and card.refiner is not None:
            card = replace(card, refiner=replace(card.refiner, sigma_max={refiner_steps: sigma_max}))
        settings = SeparationSettings(refiner_steps=refiner_steps, noise_seed=seed)
        return song_separator(Pipeline(self.network, card, self.device), card, settings, rate_hz)


def local_model(model: str) -> LocalModel:
    """A model of the catalogue by its name, or the one in a folder. Raises what the catalogue raises."""
    folder = Path(model)
    is_folder = (folder / catalogue.CARD_FILE).is_file()
    installed = catalogue.load_installed(folder) if is_folder else catalogue.find(model)
    catalogue.verify(installed)
    network = registry.build(installed.card.architecture, installed.card.config)
    network.load_state_dict({key: value for path in installed.weight_paths for key, value in load_file(path).items()})
    return LocalModel(installed.card, network, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def local_separator(model: str, refiner_steps: int, seed: int = 0) -> tuple[tuple[str, ...], Separate]:
    """The stems' names and the function, of a model in the catalogue. Raises what the catalogue raises."""
    loaded = local_model(model)
    return loaded.card.stems, loaded.separator(refiner_steps, seed)
