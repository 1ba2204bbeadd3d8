"""A model as a function of a whole song, through the same windows, pipeline and overlap-add as the server's."""

from collections.abc import Callable

import numpy as np
import torch
from safetensors.torch import load_file

from pyserver.engine.messages import Audio, SeparationSettings, WindowRequest
from pyserver.engine.pipeline import Pipeline
from pyserver.models import catalogue, registry
from pyserver.models.card import ModelCard
from pyserver.separation.overlap import OverlapAdd
from pyserver.separation.windows import Window, WindowShape, plan

RATE_HZ = 44100


def cut(song_CN: Audio, window: Window) -> Audio:
    """What the window reads of the song, with silence where it reaches beyond."""
    low, high = max(window.start, 0), min(window.stop, song_CN.shape[-1])
    return np.pad(song_CN[:, low:high], [(0, 0), (low - window.start, window.stop - max(high, low))])


def song_separator(pipeline: Pipeline, card: ModelCard, settings: SeparationSettings) -> Callable[[Audio], Audio]:
    """(C, N) at 44.1 kHz → (S, C, N)."""
    shape = WindowShape(card.window_samples, card.margin_samples, card.fade_samples).at_rate(
        card.sample_rate_hz, RATE_HZ
    )

    def separate(song_CN: Audio) -> Audio:
        stems_SCN = np.zeros((len(card.stems), *song_CN.shape), np.float32)
        overlap = OverlapAdd(shape, song_CN.shape[-1])
        for window in plan(shape, song_CN.shape[-1]):
            keep = window.keep_start - window.start, window.keep_stop - window.start
            request = WindowRequest(card.name, cut(song_CN, window), RATE_HZ, window.start, keep, settings)
            start, finished = overlap.push(window, pipeline.run(request).stems_SCN)
            stems_SCN[..., start : start + finished.shape[-1]] = finished
        return stems_SCN

    return separate


def local_separator(model: str, refiner_steps: int, seed: int = 0) -> tuple[tuple[str, ...], Callable[[Audio], Audio]]:
    """The stems' names and the function, of a model in the catalogue. Raises what the catalogue raises."""
    installed = catalogue.find(model)
    catalogue.verify(installed)
    network = registry.build(installed.card.architecture, installed.card.config)
    network.load_state_dict({key: value for path in installed.weight_paths for key, value in load_file(path).items()})
    pipeline = Pipeline(network, installed.card, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    settings = SeparationSettings(refiner_steps=refiner_steps, noise_seed=seed)
    return installed.card.stems, song_separator(pipeline, installed.card, settings)
