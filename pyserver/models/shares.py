"""Stems that are fixed shares of the mixture: a model without a network.

It costs next to nothing, so what a server takes beside its model can be measured with it (`benchmarks.transport`).
Axes: B batch, S stems, C audio channels, L samples.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pyserver.diffusion.scalings import ScalingsFunction
from pyserver.models.interface import Features, ModelHasNoRefiner, SeparationModel


class FixedShares(SeparationModel):
    """The shares are its weights, (S); untrained they are equal."""

    has_refiner = False

    def __init__(self, stems: int) -> None:
        super().__init__()
        self.stems = stems
        self.shares = nn.Parameter(torch.full((stems,), 1 / stems))

    @classmethod
    def from_config(cls, raw: Mapping[str, Any]) -> "FixedShares":
        return cls(**raw)

    def separate(self, mixture_BCL: Tensor) -> tuple[Tensor, Features]:
        return mixture_BCL[:, None] * self.shares[:, None, None], []

    def denoise(self, x_BSCL: Tensor, sigma_B: Tensor, features: Features, scalings: ScalingsFunction) -> Tensor:
        raise ModelHasNoRefiner
