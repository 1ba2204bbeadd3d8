"""The stages of our own small model (`band_split`): separator, diffusion refiner, its distillation, and the control.

Axes: B batch, S stems, C channels, L and N samples, F frequency bins, T frames.
"""

import copy
import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyserver.diffusion.schedules import distillation_grid
from pyserver.engine.pipeline import refine
from pyserver.models.band_split import BandSplitConfig, BandSplitModel, FrequencyMix, TimeMix
from pyserver.models.card import RefinerSettings
from pyserver.models.stft import stft
from training.board import Panels
from training.data.augment import AugmentConfig, augment, normalise
from training.experiments.experiment import Experiment, Sources
from training.loop import Stage
from training.objectives import (
    RefinerLossConfig,
    SnrLossConfig,
    consistency_loss,
    control_loss,
    diffusion_loss,
    joint_loss,
    refiner_batch,
    separator_loss,
)
from training.validation import Audio, Separate, judging

BLOCKS = (TimeMix, FrequencyMix)
TRIED_SIGMAS = (0.01, 0.03, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallExperiment(Experiment):
    network: BandSplitConfig
    separator_loss: SnrLossConfig = field(default_factory=SnrLossConfig)
    refiner_loss: RefinerLossConfig = field(default_factory=RefinerLossConfig)
    separator_weight: float = 0.5
    """Of the separator's own loss, where it is trained together with the refiner."""

    def build(self, sources: Sources) -> tuple[Stage, nn.Module]:
        torch.manual_seed(self.train.seed)
        return _BUILDERS[self.train.stage](self, BandSplitModel(self.network), sources)

    def network_settings(self) -> dict[str, Any]:
        return {"architecture": "band_split", "network": asdict(self.network)}

    def smaller(self) -> Self:
        network = replace(
            self.network,
            n_fft=512,
            hop_length=256,
            bands=((16, 4), (8, 8), (8, 16), (1, 1)),
            dim=16,
            dilations=(1,),
            kernel=3,
            head_hidden=16,
            refiner_dim=16,
            refiner_dilations=(1,),
            refiner_hidden=16,
        )
        crop = replace(self.train.crop, samples=16384)
        loss = replace(self.separator_loss, region_edges=(0, 64, 257))
        return replace(self, network=network, train=replace(self.train, crop=crop), separator_loss=loss)

    def spectra(self, batch_BSCL: Tensor, generator: torch.Generator) -> Tensor:
        """Augmented, and at the level at which the model is used."""
        recipe = self.train.augment
        assert isinstance(recipe, AugmentConfig)
        return normalise(augment(stft(batch_BSCL, self.network.stft), recipe, generator), self.network.n_fft)


def separates(model: BandSplitModel, settings: RefinerSettings | None = None) -> Separate:
    """A whole song at once, by the server's sampler; what is served goes through the pipeline's windows instead."""
    device = next(model.parameters()).device

    def separate(mixture_CN: Audio) -> Audio:
        mixture = torch.from_numpy(mixture_CN)[None].to(device)
        level = mixture.square().mean().sqrt() + 1e-9
        with torch.inference_mode():
            stems, features = model.separate(mixture / level)
            if settings is not None:
                generator = torch.Generator().manual_seed(0)
                noise = (torch.randn(stems.shape, generator=generator).to(device) for _ in itertools.count())
                stems = refine(model, stems, features, settings, settings.default_steps, noise)
            out: Audio = (stems[0] * level).cpu().numpy()
        return out

    return separate


def one_step(kind: str, sigma: float, config: BandSplitConfig) -> RefinerSettings:
    return RefinerSettings(
        kind=kind, default_steps=1, sigma_max={1: sigma}, sigma_min=min(sigma, config.sigma_min), rho=9.0
    )


def _separator_stage(experiment: SmallExperiment, model: BandSplitModel, sources: Sources) -> tuple[Stage, nn.Module]:
    """From a given separator, where one is named, else from scratch."""
    if sources.separator is not None:
        model.separator.load_state_dict(sources.part_of(experiment.name, "separator"))
    songs = experiment.validation_set(sources.validation)

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        stems = experiment.spectra(batch, generator)
        shares, _ = model.separate_spectrum(stems.sum(1))
        return separator_loss(shares, stems, experiment.separator_loss)

    stage = Stage(
        trained=model.separator,
        loss=loss,
        validate=lambda weights: judging(model, "separator", weights, lambda judged: songs.scores(separates(judged))),
        panels=lambda weights: judging(model, "separator", weights, lambda judged: songs.panels(separates(judged))),
        blocks=BLOCKS,
    )
    return stage, copy.deepcopy(model.separator)


def _joint_stage(experiment: SmallExperiment, model: BandSplitModel, sources: Sources) -> tuple[Stage, nn.Module]:
    """Separator and refiner at once; from given ones, where they are named, else from scratch."""
    for part in ("separator", "refiner"):
        if getattr(sources, part) is not None:
            model.get_submodule(part).load_state_dict(sources.part_of(experiment.name, part))
    songs = experiment.validation_set(sources.validation)
    settings = _without_noise(experiment.network)

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        stems = experiment.spectra(batch, generator)
        return joint_loss(model, stems, experiment.separator_loss, experiment.separator_weight)

    def figures(judged: nn.Module) -> dict[str, float]:
        assert isinstance(judged, BandSplitModel)
        return {"separator": songs.scores(separates(judged))["mean"], **songs.scores(separates(judged, settings))}

    def panels(judged: nn.Module) -> Panels:
        assert isinstance(judged, BandSplitModel)
        return songs.panels(separates(judged, settings))

    stage = Stage(trained=model, loss=loss, validate=figures, panels=panels, blocks=BLOCKS)
    return stage, copy.deepcopy(model)


def _without_noise(config: BandSplitConfig) -> RefinerSettings:
    """One step at sigma_min, where `edm` leaves the network's clean stems as they are."""
    return one_step("edm", config.sigma_min, config)


def _refiner_stage(
    experiment: SmallExperiment,
    model: BandSplitModel,
    sources: Sources,
    samplers: dict[str, RefinerSettings],
    loss: Callable[[Tensor, torch.Generator], Tensor],
) -> tuple[Stage, nn.Module]:
    """A stage whose `mean` is the best of the samplers' and which shows what the separator has without any."""
    songs = experiment.validation_set(sources.validation)

    def figures(judged: BandSplitModel) -> dict[str, float]:
        means = {name: songs.scores(separates(judged, settings))["mean"] for name, settings in samplers.items()}
        return {"separator": songs.scores(separates(judged))["mean"], **means, "mean": max(means.values())}

    first = next(iter(samplers.values()))
    stage = Stage(
        trained=model.refiner,
        loss=loss,
        validate=lambda weights: judging(model, "refiner", weights, figures),
        panels=lambda weights: judging(
            model, "refiner", weights, lambda judged: songs.panels(separates(judged, first))
        ),
        blocks=BLOCKS,
    )
    return stage, copy.deepcopy(model.refiner)


def _tried(kind: str, config: BandSplitConfig) -> dict[str, RefinerSettings]:
    return {f"sigma {sigma}": one_step(kind, sigma, config) for sigma in TRIED_SIGMAS}


def _with_separator(experiment: SmallExperiment, model: BandSplitModel, sources: Sources) -> None:
    model.separator.load_state_dict(sources.part_of(experiment.name, "separator"))
    model.separator.requires_grad_(False)


def _from_given_refiner(experiment: SmallExperiment, model: BandSplitModel, sources: Sources) -> None:
    """Where none is named, from scratch: as good as the separator alone."""
    if sources.refiner is not None:
        model.refiner.load_state_dict(sources.part_of(experiment.name, "refiner"))


def _diffusion_stage(experiment: SmallExperiment, model: BandSplitModel, sources: Sources) -> tuple[Stage, nn.Module]:
    _with_separator(experiment, model, sources)
    _from_given_refiner(experiment, model, sources)
    recipe = experiment.refiner_loss

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        stems, length = experiment.spectra(batch, generator), batch.shape[-1]
        return diffusion_loss(model, refiner_batch(model, stems, length, recipe, generator), length, recipe, generator)

    return _refiner_stage(experiment, model, sources, _tried("edm", experiment.network), loss)


def _control_stage(experiment: SmallExperiment, model: BandSplitModel, sources: Sources) -> tuple[Stage, nn.Module]:
    """`Det x2`: the refiner's network and data without noise, exported as an `edm` refiner of one step at sigma_min."""
    _with_separator(experiment, model, sources)
    _from_given_refiner(experiment, model, sources)
    recipe = replace(experiment.refiner_loss, clean_chance=0.0)

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        stems, length = experiment.spectra(batch, generator), batch.shape[-1]
        return control_loss(model, refiner_batch(model, stems, length, recipe, generator), recipe)

    samplers = {"control": _without_noise(experiment.network)}
    return _refiner_stage(experiment, model, sources, samplers, loss)


def _consistency_stage(experiment: SmallExperiment, model: BandSplitModel, sources: Sources) -> tuple[Stage, nn.Module]:
    _with_separator(experiment, model, sources)
    model.refiner.load_state_dict(sources.part_of(experiment.name, "refiner"))
    teacher, target = (copy.deepcopy(model).requires_grad_(False) for _ in range(2))
    recipe, config = experiment.refiner_loss, experiment.network
    grid = distillation_grid(recipe.grid_points, config.sigma_min, recipe.sigma_max, recipe.rho)

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        stems, length = experiment.spectra(batch, generator), batch.shape[-1]
        start = refiner_batch(model, stems, length, recipe, generator)
        levels = grid.to(batch.device)
        return consistency_loss(model, target, teacher, start, levels, length, recipe, generator)

    def follow(average: nn.Module) -> None:
        target.refiner.load_state_dict(average.state_dict())

    stage, average = _refiner_stage(experiment, model, sources, _tried("consistency", config), loss)
    return replace(stage, after_step=follow), average


_BUILDERS: dict[str, Callable[[SmallExperiment, BandSplitModel, Sources], tuple[Stage, nn.Module]]] = {
    "separator": _separator_stage,
    "joint": _joint_stage,
    "diffusion": _diffusion_stage,
    "consistency": _consistency_stage,
    "control": _control_stage,
}
