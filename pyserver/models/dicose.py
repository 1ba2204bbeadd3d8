"""DiCoSe: a separator and a generative refiner on the same backbone, as one SeparationModel.

Weights are kept as `separator.<name>` and `refiner.<name>`, with the names of the published checkpoints after the dot.
Axes: B batch, S stems, C audio channels, L samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pyserver.diffusion.scalings import ScalingsFunction, precondition
from pyserver.models.bs_roformer import BSRoformerConfig, BSRoformerRefiner, BSRoformerSeparator
from pyserver.models.interface import Features, ModelHasNoRefiner, SeparationModel
from pyserver.models.unet import UNet, UNetConfig

_FROZEN_SEPARATOR = "pre_trained_mixture_feature_extractor_model.model.unet."

PUBLISHED_PREFIXES: Mapping[str, Mapping[str, str]] = {
    "det": {"separator.": "model.unet."},
    "diffusion": {"separator.": _FROZEN_SEPARATOR, "refiner.": "model.unet."},
    "cd": {"separator.": _FROZEN_SEPARATOR, "refiner.": "net.model.unet."},
}
"""For each training stage, which prefix of the published Lightning state dict holds our separator and refiner.

A consistency checkpoint also has `target_model.` (the EMA) and `teacher_model.`: not what was scored.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DicoseConfig:
    """What a model card says. `separator` and `refiner` are settings of the backbone; no refiner: separator alone."""

    separator: Mapping[str, Any]
    refiner: Mapping[str, Any] | None
    sigma_data: float
    sigma_min: float = 1e-4


class DicoseUNet(SeparationModel):
    """Mono. Both networks are conditioned on the stem, so each makes one pass a stem, here in one batch of B·S.

    Lengths are padded with zeros to what the network can halve, and cut back.
    """

    output_limit = 1.0

    def __init__(self, config: DicoseConfig) -> None:
        super().__init__()
        network = UNetConfig.from_published(config.separator)
        self.config = config
        self.stems = network.context_features
        self.length_multiple = network.length_multiple
        self.separator = UNet(network, timed=False)
        self.refiner = UNet(UNetConfig.from_published(config.refiner), timed=True) if config.refiner else None
        self.has_refiner = self.refiner is not None

    @classmethod
    def from_config(cls, raw: Mapping[str, Any]) -> "DicoseUNet":
        return cls(DicoseConfig(**raw))

    def separate(self, mixture_BCL: Tensor) -> tuple[Tensor, Features]:
        batch, _, length = mixture_BCL.shape
        padded = self._padded(mixture_BCL).repeat_interleave(self.stems, dim=0)
        stems, features = self.separator(padded, class_BK=self._classes(batch, padded))
        # the last feature is the estimate itself, which no refiner takes
        return self._cut(stems, batch, length), features[:-1]

    def denoise(self, x_BSCL: Tensor, sigma_B: Tensor, features: Features, scalings: ScalingsFunction) -> Tensor:
        batch, length = x_BSCL.shape[0], x_BSCL.shape[-1]
        refiner = self.refiner
        if refiner is None:
            raise ModelHasNoRefiner
        padded = self._padded(x_BSCL.flatten(0, 1))
        classes = self._classes(batch, padded)

        def network(x: Tensor, c_noise_B: Tensor) -> Tensor:
            return refiner(x, c_noise_B=c_noise_B, class_BK=classes, injected=features)[0]  # type: ignore[no-any-return]

        sigma = sigma_B.repeat_interleave(self.stems)
        coefficients = scalings(sigma, self.config.sigma_data, self.config.sigma_min)
        return self._cut(precondition(network, padded, coefficients), batch, length)

    def _classes(self, batch: int, like: Tensor) -> Tensor:
        return torch.eye(self.stems, device=like.device, dtype=like.dtype).repeat(batch, 1)

    def _padded(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (0, -x.shape[-1] % self.length_multiple))

    def _cut(self, x: Tensor, batch: int, length: int) -> Tensor:
        return x[..., :length].reshape(batch, self.stems, x.shape[1], length)


class DicoseBSRoformer(SeparationModel):
    """Mono or stereo, any length. One pass of the separator serves all stems; the refiner makes one pass a stem."""

    output_limit = 1.0

    def __init__(self, config: DicoseConfig) -> None:
        super().__init__()
        network = BSRoformerConfig.from_published(config.separator)
        self.config = config
        self.stems = network.num_stems
        self.separator = BSRoformerSeparator(network)
        self.refiner = BSRoformerRefiner(BSRoformerConfig.from_published(config.refiner)) if config.refiner else None
        self.has_refiner = self.refiner is not None

    @classmethod
    def from_config(cls, raw: Mapping[str, Any]) -> "DicoseBSRoformer":
        return cls(DicoseConfig(**raw))

    def separate(self, mixture_BCL: Tensor) -> tuple[Tensor, Features]:
        return self.separator(mixture_BCL)  # type: ignore[no-any-return]

    def denoise(self, x_BSCL: Tensor, sigma_B: Tensor, features: Features, scalings: ScalingsFunction) -> Tensor:
        refiner = self.refiner
        if refiner is None:
            raise ModelHasNoRefiner
        coefficients = scalings(sigma_B, self.config.sigma_data, self.config.sigma_min)

        def refine_stem(stem: int) -> Tensor:
            def network(x_BCL: Tensor, c_noise_B: Tensor) -> Tensor:
                return refiner(x_BCL, c_noise_B, stem, features)  # type: ignore[no-any-return]

            return precondition(network, x_BSCL[:, stem], coefficients)

        # one after another: a pass of the full-size network over 11 s needs gigabytes
        return torch.stack([refine_stem(stem) for stem in range(self.stems)], dim=1)


PUBLISHED_UNET: Mapping[str, Any] = {
    "channels": 256,
    "patch_factor": 16,
    "resnet_groups": 8,
    "kernel_multiplier_downsample": 2,
    "multipliers": [1, 2, 4, 4, 4, 4, 4],
    "factors": [4, 4, 4, 2, 2, 2],
    "num_blocks": [2, 2, 2, 2, 2, 2],
    "attentions": [False, False, False, True, True, True],
    "attention_heads": 8,
    "attention_features": 128,
    "attention_multiplier": 2,
    "use_skip_scale": True,
    "use_attention_bottleneck": True,
}
"""The size of DiCoSe's and MSDM's networks alike; what goes in differs."""


def published_unet() -> DicoseConfig:
    """Full size: 405.2 M parameters in the separator, 405.5 M in the refiner; 22 050 Hz, 262 144 samples a window."""
    network = {**PUBLISHED_UNET, "context_features": 4, "in_channels": 1}
    return DicoseConfig(separator=network, refiner=network, sigma_data=0.2)


def published_bs_roformer() -> DicoseConfig:
    """Full size: 131.7 M parameters in the separator, 179.9 M in the refiner; 44 100 Hz, 485 100 samples a window."""
    network = {
        "dim": 384,
        "depth": 8,
        "stereo": True,
        "num_stems": 4,
        "freqs_per_bands": [2] * 24 + [4] * 12 + [12] * 8 + [24] * 8 + [48] * 8 + [128, 129],
        "dim_head": 64,
        "heads": 8,
        "attn_dropout": 0.1,
        "ff_dropout": 0.1,
        "stft_n_fft": 2048,
        "stft_hop_length": 441,
        "stft_win_length": 2048,
        "mask_estimator_depth": 2,
        "mlp_expansion_factor": 2,
        "stft_adapter_hidden": 128,
    }
    return DicoseConfig(separator=network, refiner=network, sigma_data=0.06)
