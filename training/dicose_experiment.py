"""DiCoSe's stages as experiments: published networks, losses and samplers, on songs of a data set.

Axes: B batch, S stems, C channels, L and N samples.
"""

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyserver.engine.pipeline import refine
from pyserver.models.card import RefinerSettings
from pyserver.models.dicose import DicoseBSRoformer, DicoseConfig, DicoseUNet
from pyserver.models.interface import Features
from pyserver.models.transformer import Transformer
from pyserver.models.unet import Bottleneck, DecoderLevel, EncoderLevel
from training.data.effects import EffectsConfig, apply_effects
from training.dicose_stages import (
    DicoseModel,
    DicoseRecipe,
    consistency_stage,
    control_stage,
    diffusion_stage,
    plain_scalings,
    separator_stage,
)
from training.experiments.experiment import Experiment, Sources
from training.loop import Stage
from training.validation import Audio, Separate, judging

BLOCKS = (Transformer, EncoderLevel, DecoderLevel, Bottleneck)

SMALL_NETWORK: dict[str, Any] = {
    "channels": 16,
    "patch_factor": 4,
    "resnet_groups": 4,
    "kernel_multiplier_downsample": 2,
    "multipliers": [1, 2, 2],
    "factors": [4, 2],
    "num_blocks": [1, 1],
    "attentions": [False, True],
    "attention_heads": 2,
    "attention_features": 8,
    "attention_multiplier": 2,
}
SMALL_UNET: dict[str, Any] = {
    **SMALL_NETWORK,
    "context_features": 4,
    "in_channels": 1,
    "use_skip_scale": True,
    "use_attention_bottleneck": True,
}
SMALL_BS_ROFORMER: dict[str, Any] = {
    "dim": 16,
    "depth": 1,
    "stereo": True,
    "num_stems": 4,
    "freqs_per_bands": [8, 8, 16, 32, 65],
    "dim_head": 8,
    "heads": 2,
    "attn_dropout": 0.1,
    "ff_dropout": 0.1,
    "stft_n_fft": 256,
    "stft_hop_length": 64,
    "stft_win_length": 256,
    "mask_estimator_depth": 2,
    "mlp_expansion_factor": 2,
    "stft_adapter_hidden": 8,
}
SMALL: dict[str, tuple[dict[str, Any], int]] = {  # networks, and samples of a crop
    "dicose_unet": (SMALL_UNET, 4096),
    "dicose_bs_roformer": (SMALL_BS_ROFORMER, 8192),
}
BUILDERS: dict[str, Callable[[DicoseConfig], DicoseModel]] = {
    "dicose_unet": DicoseUNet,
    "dicose_bs_roformer": DicoseBSRoformer,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DicoseExperiment(Experiment):
    """`sampler` is how a refiner is validated; `starts_from_separator`: its weights that the separator has, too."""

    architecture: str
    network: DicoseConfig
    recipe: DicoseRecipe
    sampler: RefinerSettings | None = None
    starts_from_separator: bool = False

    def build(self, sources: Sources) -> tuple[Stage, nn.Module]:
        torch.manual_seed(self.train.seed)
        stage_name = self.train.stage
        alone = stage_name == "separator"
        model = BUILDERS[self.architecture](replace(self.network, refiner=None) if alone else self.network)
        if (alone and sources.separator is not None) or not alone:
            model.separator.load_state_dict(sources.part_of(self.name, "separator"))
        if stage_name == "consistency":
            refiner_of(model).load_state_dict(sources.part_of(self.name, "refiner"))
        elif not alone and self.starts_from_separator:
            start_from_separator(model)
        stage, average = _STAGES[stage_name](model, self.recipe, self._validates(model, sources))
        effects, plain_loss = self.train.augment, stage.loss
        assert isinstance(effects, EffectsConfig)

        def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
            return plain_loss(apply_effects(batch, effects, generator), generator)

        return replace(stage, loss=loss, panels=self._panels(model, sources), blocks=BLOCKS), average

    def network_settings(self) -> dict[str, Any]:
        return {"architecture": self.architecture, "network": asdict(self.network)}

    def smaller(self) -> Self:
        settings, samples = SMALL[self.architecture]
        network = replace(self.network, separator=settings, refiner=settings)
        return replace(self, network=network, train=replace(self.train, crop=replace(self.train.crop, samples=samples)))

    @property
    def _part(self) -> str:
        return "separator" if self.train.stage == "separator" else "refiner"

    def _separates(self, model: DicoseModel, refines: bool) -> Separate:
        if not refines:
            return separates(model, self.train.crop.samples, lambda stems, features: stems)
        if self.train.stage == "control":
            return separates(model, self.train.crop.samples, lambda stems, features: controlled(model, stems, features))
        sampler = self.sampler
        assert sampler is not None
        return separates(model, self.train.crop.samples, lambda s, features: sampled(model, s, features, sampler))

    def _validates(self, model: DicoseModel, sources: Sources) -> Callable[[nn.Module], dict[str, float]]:
        songs = self.validation_set(sources.validation)

        def figures(judged: DicoseModel) -> dict[str, float]:
            if self._part == "separator":
                return songs.scores(self._separates(judged, refines=False))
            before = songs.scores(self._separates(judged, refines=False))["mean"]
            return {"separator": before, **songs.scores(self._separates(judged, refines=True))}

        return lambda weights: judging(model, self._part, weights, figures)

    def _panels(self, model: DicoseModel, sources: Sources) -> Callable[[nn.Module], Any]:
        songs, refines = self.validation_set(sources.validation), self._part == "refiner"
        return lambda weights: judging(
            model, self._part, weights, lambda judged: songs.panels(self._separates(judged, refines))
        )


def refiner_of(model: DicoseModel) -> nn.Module:
    assert model.refiner is not None
    return model.refiner


def start_from_separator(model: DicoseModel) -> None:
    """Copies what both networks have. What only the refiner has are its conditioning and its adapters."""
    refiner = refiner_of(model)
    missing, unexpected = refiner.load_state_dict(model.separator.state_dict(), strict=False)
    new = ("to_scale_shift", "to_time", "to_mapping", "stem_embedding", "adapter")
    assert not unexpected
    assert all(any(part in name for part in new) for name in missing), missing


def separates(
    model: DicoseModel, window: int, refined: Callable[[Tensor, Features], Tensor]
) -> Callable[[Audio], Audio]:
    """Windows without overlap, the last one filled up with silence: the published evaluation."""
    device = next(model.parameters()).device

    def separate(mixture_CN: Audio) -> Audio:
        mixture = torch.from_numpy(mixture_CN).to(device)
        parts = []
        with torch.inference_mode():
            for part in torch.split(mixture, window, dim=-1):
                whole = nn.functional.pad(part, (0, window - part.shape[-1]))
                parts.append(refined(*model.separate(whole[None]))[0, ..., : part.shape[-1]].cpu())
        out: Audio = torch.cat(parts, dim=-1).numpy()
        return out

    return separate


def sampled(model: DicoseModel, stems_BSCL: Tensor, features: Features, settings: RefinerSettings) -> Tensor:
    """Refined as published, with the same noise in every window."""
    generator = torch.Generator().manual_seed(0)
    noise = (torch.randn(stems_BSCL.shape, generator=generator).to(stems_BSCL) for _ in itertools.count())
    return refine(model, stems_BSCL, features, settings, settings.default_steps, noise)


def controlled(model: DicoseModel, stems_BSCL: Tensor, features: Features) -> Tensor:
    return model.denoise(stems_BSCL, stems_BSCL.new_ones(len(stems_BSCL)), features, plain_scalings)


_STAGES: dict[str, Callable[..., tuple[Stage, nn.Module]]] = {
    "separator": separator_stage,
    "diffusion": diffusion_stage,
    "consistency": consistency_stage,
    "control": control_stage,
}
