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
    "GenerativeModel",
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


class GenerativeModel(SeparationModel):
    """A model without a separator: stems are sampled from noise, in a domain of the model's own.

    `separate` gives the estimate of one evaluation, for where nobody asks for steps. `denoise` works in the domain that
    `begin` opens and `finish` leaves; the sampler's levels are in its unit.
    """

    @abstractmethod
    def begin(self, mixture_BCL: Tensor) -> tuple[Tensor, Features]:
        """Zeros in the model's domain, to which the sampler adds its noise, and the features of the mixture."""

    @abstractmethod
    def noise_shape(self, num_samples: int) -> tuple[int, ...]:
        """Of one item in that domain."""

    @abstractmethod
    def finish(self, x: Tensor, features: Features) -> Tensor:
        """All stems (B, S, C, L) of what was sampled."""


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
