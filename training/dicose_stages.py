"""DiCoSe's three stages over the published models, for the training loop: what is trained and what a batch costs.

A batch is clean stems (B, S, C, L) at the model's rate and channel count; mixtures are their sums.
Axes: B batch, S stems, C channels, L samples, K classes (as many as stems).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pyserver.diffusion.samplers import Denoiser
from pyserver.diffusion.scalings import Scalings, ScalingsFunction, precondition
from pyserver.models.dicose import DicoseBSRoformer, DicoseUNet
from pyserver.models.interface import ModelHasNoRefiner
from training.dicose_objectives import (
    Conditioned,
    ConsistencyObjective,
    DiffusionObjective,
    ErrorKind,
    NoiseConfig,
    RefinerExample,
    Refiners,
)
from training.loop import Stage

DicoseModel = DicoseUNet | DicoseBSRoformer
Validation = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DicoseRecipe:
    """`clean_chance` is p of eq. 2: how often noise is added to the clean stem instead of the separator's estimate."""

    error: ErrorKind
    clean_chance: float
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    score_matching_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.clean_chance <= 1.0:
            raise ValueError(f"a chance is within 0 and 1, not {self.clean_chance}")


def unet_slakh() -> DicoseRecipe:
    """As published; the paper's score matching weight is 0.7."""
    return DicoseRecipe(error=ErrorKind.SQUARED, clean_chance=1.0, noise=NoiseConfig(sigma_max=10.0, grid_points=18))


def bs_roformer_musdb() -> DicoseRecipe:
    """As published; the paper's score matching weight is 0.7."""
    noise = NoiseConfig(sigma_max=0.5, grid_points=10)
    return DicoseRecipe(error=ErrorKind.L1_AND_SPECTRAL, clean_chance=0.5, noise=noise)


def separator_stage(model: DicoseModel, recipe: DicoseRecipe, validate: Validation) -> tuple[Stage, nn.Module]:
    """Stage 1, and the average that starts as a copy of the separator."""
    error = recipe.error.function()

    def loss(stems_BSCL: Tensor, generator: torch.Generator) -> Tensor:
        if isinstance(model, DicoseUNet):
            return error(*_unet_estimate(model, stems_BSCL, generator)[:2]).mean()
        return error(model.separator(stems_BSCL.sum(1))[0], stems_BSCL).mean()

    return Stage(trained=model.separator, loss=loss, validate=validate), copy.deepcopy(model.separator)


def diffusion_stage(model: DicoseModel, recipe: DicoseRecipe, validate: Validation) -> tuple[Stage, nn.Module]:
    """Stage 2: the separator is frozen, the refiner learns to denoise."""
    refiner = _refiner(model)
    objective = DiffusionObjective(error=recipe.error.function(), noise=recipe.noise)
    model.separator.requires_grad_(False).eval()

    def loss(stems_BSCL: Tensor, generator: torch.Generator) -> Tensor:
        return objective(refiner, refiner_example(model, stems_BSCL, recipe.clean_chance, generator), generator)

    return Stage(trained=refiner, loss=loss, validate=validate), copy.deepcopy(refiner)


def consistency_stage(model: DicoseModel, recipe: DicoseRecipe, validate: Validation) -> tuple[Stage, nn.Module]:
    """Stage 3, from the diffusion refiner in `model`: it is the teacher; the average is the target network."""
    refiner = _refiner(model)
    teacher, average = (copy.deepcopy(refiner).requires_grad_(False).eval() for _ in range(2))
    objective = ConsistencyObjective(
        error=recipe.error.function(), noise=recipe.noise, score_matching_weight=recipe.score_matching_weight
    )
    refiners = Refiners(student=refiner, target=average, teacher=teacher)
    model.separator.requires_grad_(False).eval()

    def loss(stems_BSCL: Tensor, generator: torch.Generator) -> Tensor:
        return objective(refiners, refiner_example(model, stems_BSCL, recipe.clean_chance, generator), generator)

    # as published, the student is what is scored and served, not the average
    return Stage(trained=refiner, loss=loss, validate=validate, uses_average=False), average


def control_stage(model: DicoseModel, recipe: DicoseRecipe, validate: Validation) -> tuple[Stage, nn.Module]:
    """`Det x2` (v1, table 1): the refiner's network corrects the separator's stem, with the separator's own loss.

    It always starts from the estimate: without noise, a clean stem would teach it to do nothing.
    """
    refiner, error = _refiner(model), recipe.error.function()
    model.separator.requires_grad_(False).eval()

    def loss(stems_BSCL: Tensor, generator: torch.Generator) -> Tensor:
        example = refiner_example(model, stems_BSCL, 0.0, generator)
        unused = example.start.new_ones(len(example.start))
        corrected = example.denoiser(refiner, plain_scalings)(example.start, unused)
        return error(corrected, example.clean).mean()

    return Stage(trained=refiner, loss=loss, validate=validate), copy.deepcopy(refiner)


def plain_scalings(sigma_B: Tensor, sigma_data: float, sigma_min: float) -> Scalings:
    """No preconditioning: the output is the network's own, as a separator's; the noise level it is told is 0."""
    zero, one = torch.zeros_like(sigma_B), torch.ones_like(sigma_B)
    return Scalings(skip=zero, out=one, inp=one, noise=zero)


def refiner_example(
    model: DicoseModel, stems_BSCL: Tensor, clean_chance: float, generator: torch.Generator
) -> RefinerExample:
    """One stem of every item: drawn for each by the U-Net, which is told its class; for the whole batch otherwise."""
    with torch.no_grad():
        if isinstance(model, DicoseUNet):
            estimate, clean, denoiser = _unet_example(model, stems_BSCL, generator)
        else:
            estimate, clean, denoiser = _bs_roformer_example(model, stems_BSCL, generator)
    keep = (torch.rand(len(clean), generator=generator) < clean_chance).to(clean.device)
    start = torch.where(keep[:, None, None], clean, estimate)
    return RefinerExample(clean, start, denoiser, model.config.sigma_data, model.config.sigma_min)


def _refiner(model: DicoseModel) -> nn.Module:
    if model.refiner is None:
        raise ModelHasNoRefiner
    return model.refiner


def _unet_estimate(
    model: DicoseUNet, stems_BSCL: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """(estimate, clean stem, class_BK, features) of one class an item, drawn evenly."""
    if stems_BSCL.shape[-1] % model.length_multiple:
        raise ValueError(f"crops must be multiples of {model.length_multiple} samples, not {stems_BSCL.shape[-1]}")
    stem_B = torch.randint(0, model.stems, (len(stems_BSCL),), generator=generator).to(stems_BSCL.device)
    class_BK = nn.functional.one_hot(stem_B, model.stems).to(stems_BSCL)
    estimate, features = model.separator(stems_BSCL.sum(1), class_BK=class_BK)
    clean = stems_BSCL[torch.arange(len(stem_B), device=stem_B.device), stem_B]
    # the last feature is the estimate itself, which no refiner takes
    return estimate, clean, class_BK, features[:-1]


def _unet_example(
    model: DicoseUNet, stems_BSCL: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Conditioned]:
    estimate, clean, class_BK, features = _unet_estimate(model, stems_BSCL, generator)

    def denoiser(refiner: nn.Module, scalings: ScalingsFunction) -> Denoiser:
        def network(x: Tensor, c_noise_B: Tensor) -> Tensor:
            return refiner(x, c_noise_B=c_noise_B, class_BK=class_BK, injected=features)[0]  # type: ignore[no-any-return]

        return _preconditioned(model, network, scalings)

    return estimate, clean, denoiser


def _bs_roformer_example(
    model: DicoseBSRoformer, stems_BSCL: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Conditioned]:
    stem = int(torch.randint(0, model.stems, (), generator=generator))
    estimate, features = model.separate(stems_BSCL.sum(1))

    def denoiser(refiner: nn.Module, scalings: ScalingsFunction) -> Denoiser:
        def network(x: Tensor, c_noise_B: Tensor) -> Tensor:
            return refiner(x, c_noise_B, stem, features)  # type: ignore[no-any-return]

        return _preconditioned(model, network, scalings)

    return estimate[:, stem], stems_BSCL[:, stem], denoiser


def _preconditioned(
    model: DicoseModel, network: Callable[[Tensor, Tensor], Tensor], scalings: ScalingsFunction
) -> Denoiser:
    config = model.config
    return lambda x, sigma_B: precondition(network, x, scalings(sigma_B, config.sigma_data, config.sigma_min))
