"""What the pipeline asks of a model: a separator, and a refiner that sees the separator's features; or a joint prior.

Axes: B batch, S stems, C audio channels, L samples. A model runs at its card's rate and channel count.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from pyserver.diffusion.scalings import Scalings, ScalingsFunction
from pyserver.errors import StemlineError

__all__ = [
    "AnyModel",
    "Features",
    "JointModel",
    "ModelHasNoRefiner",
    "Scalings",
    "ScalingsFunction",
    "SeparationModel",
]

Features = Sequence[Tensor]
"""What a separator hands to its refiner. Opaque to all others; the first axis of every tensor starts with the batch."""


class ModelHasNoRefiner(StemlineError):
    """Refinement was asked of a model that is a separator only."""

    reason = "MODEL_HAS_NO_REFINER"

    def __init__(self) -> None:
        super().__init__("this model is a separator without refiner: run it with 0 refiner steps")


class SeparationModel(nn.Module, ABC):
    """A separator and a refiner for the same stems. `has_refiner` is False where there is nothing to `denoise` with."""

    stems: int
    has_refiner: bool
    output_limit: float | None = None
    """Where published inference clamps the refiner's result (and the diffusion denoiser's); None: nowhere."""

    @abstractmethod
    def separate(self, mixture_BCL: Tensor) -> tuple[Tensor, Features]:
        """All stems (B, S, C, L) of any length L, and the features that `denoise` wants."""

    @abstractmethod
    def denoise(self, x_BSCL: Tensor, sigma_B: Tensor, features: Features, scalings: ScalingsFunction) -> Tensor:
        """`D(x; sigma)` of the refiner for all stems, without clamp; `features` from `separate` of the same windows."""


class JointModel(nn.Module, ABC):
    """A prior over the stems that sound together. Sampling separates, generates and accompanies (see engine.joint)."""

    stems: int
    length_multiple: int
    """`denoise` takes lengths that are multiples of this."""
    knows_context: bool = True
    """Whether one stem has a say in another: without it, nothing that is generated goes with anything."""
    output_limit: float | None = None
    """Where published inference clamps the denoiser; None: nowhere."""

    @abstractmethod
    def denoise(self, x_BSL: Tensor, sigma_B: Tensor) -> Tensor:
        """`D(x; sigma)` for all stems at once, without clamp. Raises ValueError for lengths it cannot take."""


AnyModel = SeparationModel | JointModel
