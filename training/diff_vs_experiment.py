"""Diff-VS as an experiment: EDM's loss on the vocals' normalised spectra, given the mixture's.

Axes: B batch, S stems (vocals, other), C channels, L and N samples, F bins, T frames, V values in a bin, K bands.
"""

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyserver.diffusion.scalings import edm_scalings, per_item
from pyserver.engine.pipeline import generate
from pyserver.models.card import RefinerSettings
from pyserver.models.diff_vs import DiffVSModel
from pyserver.models.diff_vs_network import DiffVSConfig, ResidualBlock
from training.data.effects import EffectsConfig, apply_effects
from training.data.pool import StemPool, draw_batch
from training.dicose_objectives import Noising, score_matching_error
from training.experiments.experiment import Experiment, Sources
from training.loop import Stage
from training.validation import Audio, Separate, judging

STATISTICS_SEED = 20_260_401


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseLevels:
    """ln(sigma) is drawn from a normal distribution; the defaults are Karras et al. 2022, table 1."""

    log_mean: float = -1.2
    log_std: float = 1.2

    def draw(self, items: int, generator: torch.Generator) -> Tensor:
        return (self.log_mean + self.log_std * torch.randn(items, generator=generator)).exp()


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How loud the vocals are made beside the rest (RMS, drawn evenly), and how often they are silenced.

    For vocals and accompaniments out of unrelated songs, whose levels say nothing of each other.
    """

    low_db: float
    high_db: float
    silent_chance: float
    most_gain: float = 8.0  # so that a breath between two lines does not become a song

    def __call__(self, stems_BSCL: Tensor, generator: torch.Generator) -> Tensor:
        items = len(stems_BSCL)
        db = self.low_db + (self.high_db - self.low_db) * torch.rand(items, generator=generator)
        sings = (torch.rand(items, generator=generator) >= self.silent_chance).float()
        vocals_B, rest_B = stems_BSCL[:, 0].square().mean((1, 2)), stems_BSCL[:, 1:].sum(1).square().mean((1, 2))
        wanted = torch.pow(10.0, db / 20).to(rest_B) * (rest_B / vocals_B.clamp_min(1e-12)).sqrt()
        gain_B = torch.where(rest_B > 0, wanted, torch.ones_like(wanted)).clamp_max(self.most_gain) * sings.to(rest_B)
        return torch.cat([stems_BSCL[:, :1] * per_item(gain_B, stems_BSCL), stems_BSCL[:, 1:]], dim=1)


def vocals_loss(model: DiffVSModel, stems_BSCL: Tensor, levels: NoiseLevels, generator: torch.Generator) -> Tensor:
    """Karras et al. 2022, eq. 2 with table 1's lambda, of the vocals beside the normalised mixture; a scalar.

    The mixture is the sum of the stems; its peak of 1 scales the vocals with it. Every band counts the same (O), or two
    thirds of the loss would be of what lies above 7 kHz.
    """
    x_start, features = model.begin(stems_BSCL.sum(1))
    clean = model.encode(stems_BSCL[:, 0] / features[2])
    sigma_B = levels.draw(len(clean), generator).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return model.denoise(x, sigma, features, edm_scalings)

    bin_weights = model.generator.statistics.bin_weights()

    def error(estimate: Tensor, target: Tensor) -> Tensor:
        return ((estimate - target).square() * bin_weights).mean((1, 2, 3))

    noising = Noising(x_start + clean, sigma_B, noise)
    return score_matching_error(denoise, noising, clean, model.config.sigma_data, error).mean()


def separates(model: DiffVSModel, window: int, sampler: RefinerSettings, steps: int) -> Separate:
    """A song in windows without overlap, by the server's sampler with the same noise in every window."""
    device = next(model.parameters()).device

    def separate(mixture_CN: Audio) -> Audio:
        parts = []
        with torch.inference_mode():
            for part in torch.split(torch.from_numpy(mixture_CN).to(device), window, dim=-1):
                whole = nn.functional.pad(part, (0, window - part.shape[-1]))[None]
                generator = torch.Generator().manual_seed(0)
                shape = (1, *model.noise_shape(window))
                noise = (torch.randn(shape, generator=generator).to(device) for _ in itertools.count())
                parts.append(generate(model, whole, sampler, steps, noise)[0, ..., : part.shape[-1]].cpu())
        out: Audio = torch.cat(parts, dim=-1).numpy()
        return out

    return separate


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffVSExperiment(Experiment):
    """`tried_steps` of `sampler` are validated. `statistics_crops`: how many crops the bands' RMS are measured on."""

    network: DiffVSConfig
    sampler: RefinerSettings
    levels: NoiseLevels = field(default_factory=NoiseLevels)
    balance: Balance | None = None
    tried_steps: tuple[int, ...] = (1, 7)
    statistics_crops: int = 256

    def build(self, sources: Sources) -> tuple[Stage, nn.Module]:
        torch.manual_seed(self.train.seed)
        model = DiffVSModel(self.network)
        if sources.training is not None:
            model.generator.statistics.measure(self._measured(model, sources.training))
        songs = self.validation_set(sources.validation)

        def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
            return vocals_loss(model, self.augmented(batch, generator), self.levels, generator)

        def figures(judged: DiffVSModel) -> dict[str, float]:
            found = {str(steps): songs.scores(self._separates(judged, steps)) for steps in self.tried_steps}
            means = {f"{steps} steps": scores["mean"] for steps, scores in found.items()}
            return {**means, "mean": max(means.values())}

        def judge(weights: nn.Module, by: Callable[[DiffVSModel], Any]) -> Any:
            return judging(model, "generator", weights, by)

        most = max(self.tried_steps)
        stage = Stage(
            trained=model.generator,
            loss=loss,
            validate=lambda weights: judge(weights, figures),
            panels=lambda weights: judge(weights, lambda judged: songs.panels(self._separates(judged, most))),
            blocks=(ResidualBlock,),
        )
        return stage, copy.deepcopy(model.generator)

    def network_settings(self) -> dict[str, Any]:
        return {"architecture": "diff_vs", "network": asdict(self.network)}

    def smaller(self) -> Self:
        network = replace(
            self.network,
            n_fft=512,
            hop_length=256,
            bands=((4, 8), (2, 32), (1, 64), (1, 97)),
            dim=16,
            multipliers=(1, 1),
            blocks=1,
            attention_levels=(1,),
            dim_head=8,
            head_hidden=16,
        )
        crop = replace(self.train.crop, samples=8192)
        return replace(
            self, network=network, train=replace(self.train, crop=crop), tried_steps=(1, 2), statistics_crops=4
        )

    def augmented(self, stems_BSCL: Tensor, generator: torch.Generator) -> Tensor:
        assert isinstance(self.train.augment, EffectsConfig)
        stems_BSCL = apply_effects(stems_BSCL, self.train.augment, generator)
        return stems_BSCL if self.balance is None else self.balance(stems_BSCL, generator)

    def _separates(self, model: DiffVSModel, steps: int) -> Separate:
        return separates(model, self.train.crop.samples, self.sampler, steps)

    def _measured(self, model: DiffVSModel, training: Path) -> Iterator[tuple[Tensor, Tensor]]:
        """Transformed mixtures and vocals of crops as training draws them."""
        pool, crop = StemPool(training, self.stems, self.sample_rate_hz), self.train.crop
        generator = torch.Generator().manual_seed(STATISTICS_SEED)
        device = next(model.parameters()).device
        for step in range(self.statistics_crops):
            drawn = torch.from_numpy(draw_batch(pool, crop, 1, STATISTICS_SEED, step)).to(device)
            stems = self.augmented(drawn, generator)
            mixture = stems.sum(1)
            peak = mixture.abs().max().clamp_min(1e-7)
            yield model.transformed(mixture / peak), model.transformed(stems[:, 0] / peak)


def default_sampler(config: DiffVSConfig, rho: float = 7.0) -> RefinerSettings:
    """7 steps of Heun's method (P: 7 steps and a re-tuned rho, O: Heun's; 7 is EDM's rho), 13 network evaluations."""
    return RefinerSettings(
        kind="heun", default_steps=7, sigma_max={7: config.sigma_max}, sigma_min=config.sigma_min, rho=rho
    )
