"""MSDM and ISDM: score networks over the stems of a song, trained on the stems alone and never on mixtures.

MSDM is one waveform U-Net with a channel a stem; ISDM is one mono U-Net a stem. Both are the network of DiCoSe's
refiner without a class and without injected features. Weights are `network.<name>` and `networks.<stem>.<name>`, with
the names of the published checkpoints below `model.unet.`. Axes: B batch, S stems, L samples; sound is mono.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pyserver.diffusion.scalings import edm_scalings, precondition
from pyserver.models.dicose import PUBLISHED_UNET
from pyserver.models.interface import JointModel
from pyserver.models.unet import UNet, UNetConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MsdmConfig:
    """What a model card says. `network` holds the settings of the U-Net, named as published."""

    network: Mapping[str, Any]
    stems: int
    sigma_data: float

    def unet(self, channels: int) -> UNetConfig:
        """Raises ValueError where the network takes another number of stacked stems, or a class."""
        unet = UNetConfig.from_published(self.network)
        if unet.in_channels != channels:
            raise ValueError(f"the network takes {unet.in_channels} stacked channels, not {channels}")
        if unet.context_features:
            raise ValueError("a network over stems is not conditioned on a class")
        return unet


class _WaveformPrior(JointModel):
    output_limit = 1.0

    def __init__(self, config: MsdmConfig, unet: UNetConfig) -> None:
        super().__init__()
        self.config, self.stems, self.length_multiple = config, config.stems, unet.length_multiple

    def _denoise_with(self, network: UNet, x_BCL: Tensor, sigma_B: Tensor) -> Tensor:
        if x_BCL.shape[-1] % self.length_multiple:
            raise ValueError(f"{x_BCL.shape[-1]} samples are not a multiple of {self.length_multiple}")

        def raw(x: Tensor, c_noise_B: Tensor) -> Tensor:
            return network(x, c_noise_B=c_noise_B)[0]  # type: ignore[no-any-return]

        return precondition(raw, x_BCL, edm_scalings(sigma_B, self.config.sigma_data))


class JointSources(_WaveformPrior):
    """MSDM: one network hears all stems, so it knows what goes with what."""

    def __init__(self, config: MsdmConfig) -> None:
        unet = config.unet(channels=config.stems)
        super().__init__(config, unet)
        self.network = UNet(unet, timed=True)

    @classmethod
    def from_config(cls, raw: Mapping[str, Any]) -> "JointSources":
        return cls(MsdmConfig(**raw))

    def denoise(self, x_BSL: Tensor, sigma_B: Tensor) -> Tensor:
        return self._denoise_with(self.network, x_BSL, sigma_B)


class IndependentSources(_WaveformPrior):
    """ISDM: each stem has a network of its own that hears nothing else; they meet in the mixture only."""

    knows_context = False

    def __init__(self, config: MsdmConfig) -> None:
        unet = config.unet(channels=1)
        super().__init__(config, unet)
        self.networks = nn.ModuleList(UNet(unet, timed=True) for _ in range(config.stems))

    @classmethod
    def from_config(cls, raw: Mapping[str, Any]) -> "IndependentSources":
        return cls(MsdmConfig(**raw))

    def denoise(self, x_BSL: Tensor, sigma_B: Tensor) -> Tensor:
        found = [
            self._denoise_with(network, x_BSL[:, stem : stem + 1], sigma_B)  # type: ignore[arg-type]
            for stem, network in enumerate(self.networks)
        ]
        return torch.cat(found, dim=1)


def published_msdm() -> MsdmConfig:
    """Full size: 22 050 Hz, 262 144 samples a window."""
    return MsdmConfig(network={**PUBLISHED_UNET, "in_channels": 4}, stems=4, sigma_data=0.2)


def published_isdm() -> MsdmConfig:
    """Full size, of each of the four networks."""
    return MsdmConfig(network={**PUBLISHED_UNET, "in_channels": 1}, stems=4, sigma_data=0.2)
