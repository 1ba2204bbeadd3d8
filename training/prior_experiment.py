"""MSDM and ISDM as experiments: denoising score matching on clean stems, judged by separating with what was learnt.

Axes: B batch, S stems, C channels (one), L and N samples.
"""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyserver.diffusion.noise import normal_stream
from pyserver.diffusion.samplers import clamped
from pyserver.engine import prior
from pyserver.models.card import ModelCard, PriorSettings
from pyserver.models.msdm import IndependentSources, JointSources, MsdmConfig
from pyserver.models.unet import Bottleneck, DecoderLevel, EncoderLevel
from training.data.effects import EffectsConfig, apply_effects
from training.dicose_experiment import SMALL_NETWORK
from training.dicose_objectives import NoiseConfig, Noising, lognormal_sigmas, score_matching_error, squared_error
from training.experiments.experiment import Experiment, Sources
from training.loop import Stage
from training.validation import Audio, Separate

BLOCKS = (EncoderLevel, DecoderLevel, Bottleneck)
NOT_SILENT = 1e-4
BUILDERS: dict[str, Callable[[MsdmConfig], JointSources | IndependentSources]] = {
    "msdm": JointSources,
    "isdm": IndependentSources,
}
SMALL_CROP_SAMPLES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorWindows:
    """How the server cuts songs for the model, in samples at its rate; names as in the model card."""

    window_samples: int
    margin_samples: int
    fade_samples: int
    live_window_samples: int
    live_lookahead_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorExperiment(Experiment):
    """`reference_rms` is the level of a window's mixture when the model is used; crops are brought to it if
    `at_reference`, and otherwise left as they are (as published).

    `prior` is how the model is validated and what its card will say.
    """

    channels: int = 1
    architecture: str
    network: MsdmConfig
    prior: PriorSettings
    windows: PriorWindows
    reference_rms: float
    at_reference: bool = False
    noise: NoiseConfig = field(default_factory=NoiseConfig)

    def build(self, sources: Sources) -> tuple[Stage, nn.Module]:
        torch.manual_seed(self.train.seed)
        model = BUILDERS[self.architecture](self.network)
        effects = self.train.augment
        assert isinstance(effects, EffectsConfig)

        def loss(batch_BSCL: Tensor, generator: torch.Generator) -> Tensor:
            stems_BSL = apply_effects(batch_BSCL, effects, generator)[:, :, 0]
            if self.at_reference:
                stems_BSL = at_level(stems_BSL, self.reference_rms)
            return prior_loss(model, stems_BSL, self.network.sigma_data, self.noise, generator)

        songs = self.validation_set(sources.validation)

        def validate(weights: nn.Module) -> dict[str, float]:
            return songs.scores(self._separates(weights))

        stage = Stage(
            trained=model,
            loss=loss,
            validate=validate,
            panels=lambda weights: songs.panels(self._separates(weights)),
            blocks=BLOCKS,
        )
        return stage, copy.deepcopy(model)

    def network_settings(self) -> dict[str, Any]:
        return {"architecture": self.architecture, "network": asdict(self.network)}

    def about(self) -> dict[str, Any]:
        card = {"windows": asdict(self.windows), "reference_rms": self.reference_rms, "prior": asdict(self.prior)}
        return {**Experiment.about(self), **card}

    def smaller(self) -> Self:
        stacked = len(self.stems) if self.architecture == "msdm" else 1
        network = SMALL_NETWORK | {"in_channels": stacked}
        if stacked > network["patch_factor"]:  # a norm at the network's ends has a group for each stem
            network |= {"patch_factor": 8, "channels": 8 * stacked}
        crop = replace(self.train.crop, samples=SMALL_CROP_SAMPLES)
        walk = replace(self.prior.separation, default_steps=2, fewest_steps=1, corrections=1, draws=1)
        return replace(
            self,
            network=replace(self.network, network=network),
            prior=replace(self.prior, separation=walk, generation=replace(walk, sigma_max=20.0)),
            windows=PriorWindows(
                window_samples=16000,
                margin_samples=1000,
                fade_samples=500,
                live_window_samples=8000,
                live_lookahead_samples=1000,
            ),
            train=replace(self.train, crop=crop),
        )

    def card(self) -> ModelCard:
        """What decides how the model separates, for use inside this process."""
        return ModelCard(
            name=self.name,
            title=self.name,
            architecture=self.architecture,
            config=asdict(self.network),
            stems=self.stems,
            sample_rate_hz=self.sample_rate_hz,
            channels=1,
            **asdict(self.windows),
            reference_rms=self.reference_rms,
            complete=True,
            refiner=None,
            licence="",
            weights=(),
            sha256={},
            prior=self.prior,
        )

    def _separates(self, model: nn.Module) -> Separate:
        """Windows without overlap, each brought to the level at which the model is used, with the same noise in all."""
        assert isinstance(model, (JointSources, IndependentSources))
        card, window = self.card(), self.windows.window_samples
        device = next(model.parameters()).device

        def separate(mixture_CN: Audio) -> Audio:
            parts = []
            with torch.inference_mode():
                for part_1L in torch.split(torch.from_numpy(mixture_CN).to(device), window, dim=-1):
                    level = part_1L.square().mean().sqrt().clamp_min(NOT_SILENT) / self.reference_rms
                    shape = (1, len(self.stems), prior.padded_length(model, part_1L.shape[-1]))
                    noise = (draw.to(device) for draw in normal_stream(0, 0, shape))
                    steps = self.prior.separation.default_steps
                    parts.append((prior.separate(model, part_1L / level, card, steps, noise)[0] * level).cpu())
            out: Audio = torch.cat(parts, dim=-1)[:, None].numpy()
            return out

        return separate  # the network is the same in training mode: it has no dropout


def at_level(stems_BSL: Tensor, rms: float) -> Tensor:
    """The same stems with their sum at that RMS in each item; silence stays silence."""
    level_B = stems_BSL.sum(1).square().mean(-1).sqrt().clamp_min(NOT_SILENT)
    return stems_BSL * (rms / level_B)[:, None, None]


def prior_loss(
    model: JointSources | IndependentSources,
    stems_BSL: Tensor,
    sigma_data: float,
    noise: NoiseConfig,
    generator: torch.Generator,
) -> Tensor:
    """Denoising score matching over all stems at once (MSDM, section 3): one level an item, drawn log-normally.

    ISDM's networks share nothing, so the mean over them trains each as if it were alone. As published, the denoiser's
    output is held within [-1, 1].
    """
    sigma_B = lognormal_sigmas(torch.randn(len(stems_BSL), generator=generator), noise).to(stems_BSL)
    drawn = torch.randn(stems_BSL.shape, generator=generator).to(stems_BSL)
    noising = Noising(stems_BSL, sigma_B, drawn)
    return score_matching_error(clamped(model.denoise), noising, stems_BSL, sigma_data, squared_error).mean()
