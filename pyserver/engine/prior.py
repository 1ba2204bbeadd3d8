"""What a joint prior does, by the settings of its card: separates a mixture, generates a piece, accompanies stems.

All at the model's rate, mono and at the card's `reference_rms`, the level of the mixtures it learnt from. Noise comes
from the caller, as tensors (B, S, `padded_length`). Axes: B batch, S stems, L samples.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import pad

from pyserver.diffusion import exponential, joint, posteriors
from pyserver.diffusion.joint import Known, Stepping
from pyserver.diffusion.posteriors import Pull, Slope
from pyserver.diffusion.samplers import Denoiser, clamped
from pyserver.diffusion.schedules import diffusion_schedule
from pyserver.engine.errors import ModelCannot
from pyserver.models.card import ModelCard, PriorSettings, WalkSettings
from pyserver.models.interface import JointModel


def padded_length(model: JointModel, length: int) -> int:
    """What the network takes for `length` samples: the next multiple. Draws of noise have this length."""
    return length + -length % model.length_multiple


def separate(model: JointModel, mixture_BL: Tensor, card: ModelCard, steps: int, noise: Iterator[Tensor]) -> Tensor:
    """(B, S, L), the mean of the card's number of samples. But with the Gaussian posterior, the stems sum to the
    mixture. Raises ModelCannot."""
    settings = _prior(card, "separate")
    length = mixture_BL.shape[-1]
    mixture_B1L = pad(mixture_BL, (0, padded_length(model, length) - length))[:, None]
    walk = _Walk(model, settings.separation, steps, mixture_BL)
    draws = settings.separation.draws
    samples = (_sample(walk, mixture_B1L, card, settings, noise) for _ in range(draws))
    return reduce(torch.add, samples)[..., :length] / draws


def _sample(
    walk: "_Walk", mixture_B1L: Tensor, card: ModelCard, settings: PriorSettings, noise: Iterator[Tensor]
) -> Tensor:
    """(B, S, L) of the posterior that the card names."""
    if settings.separation.solver == "exponential":
        pull = _pull(walk.denoise, mixture_B1L, card, settings)
        found = exponential.separate(pull, walk.sigmas, noise, walk.stepping)
    else:
        found = joint.separate(_slope(walk.denoise, mixture_B1L, card, settings), walk.sigmas, noise, walk.stepping)
    if settings.posterior == "dirac":  # the paper's algorithm 1 ends with this; the published code leaves it out
        found = posteriors.with_remainder(found, mixture_B1L, card.stems.index(settings.constrained_stem))
    return found


def _pull(denoise: Denoiser, mixture_B1L: Tensor, card: ModelCard, settings: PriorSettings) -> Pull:
    sources = len(card.stems)
    match settings.posterior:
        case "dirac":
            return posteriors.dirac_pull(denoise, mixture_B1L, card.stems.index(settings.constrained_stem), sources)
        case "gaussian":
            return posteriors.gaussian_pull(denoise, mixture_B1L, settings.coefficient, sources)
        case _:
            return posteriors.projected_pull(denoise, mixture_B1L, sources)


def _slope(denoise: Denoiser, mixture_B1L: Tensor, card: ModelCard, settings: PriorSettings) -> Slope:
    if settings.posterior == "dirac":
        return posteriors.dirac(denoise, mixture_B1L, card.stems.index(settings.constrained_stem))
    return posteriors.gaussian(denoise, mixture_B1L, settings.coefficient)


def generate(model: JointModel, card: ModelCard, steps: int, noise: Iterator[Tensor]) -> Tensor:
    """(B, S, L) as many and as long as the draws are. Raises ModelCannot."""
    first = next(noise)
    walk = _Walk(model, _generation(card, "generate"), steps, first)
    return joint.generate(walk.denoise, walk.sigmas, _again(first, noise), walk.stepping)


def accompany(model: JointModel, card: ModelCard, known: Known, steps: int, noise: Iterator[Tensor]) -> Tensor:
    """(B, S, L): what goes with the known stems, and these as they are.

    `known` may also hold a region in time of all stems: a long piece is made window by window, each of which knows the
    end of the one before. Its tensors are broadcastable to the draws, whose length is a multiple the network takes;
    where `sources` are padded, the mask should be 0. Raises ModelCannot.
    """
    first = next(noise)
    walk = _Walk(model, _generation(card, "accompany"), steps, first)
    return joint.impute(walk.denoise, known, walk.sigmas, _again(first, noise), walk.stepping)


NoiseOfStep = Callable[[int], Iterator[Tensor]]
"""Draws by the step that takes them, each step's own: 0 is the walk's start, 1 its first step."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The steps `part` of a walk of `steps`, from `x` on: where the ones before led, None for the first."""

    part: range
    steps: int
    x: Tensor | None


def walk(model: JointModel, card: ModelCard, known: Known, segment: Segment, noise: NoiseOfStep) -> Tensor:
    """What `accompany` gives, if this is the last segment; else the x that the next one goes on from.

    The bits do not depend on where the walk is cut. Raises ModelCannot.
    """
    x, part, steps = segment.x, segment.part, segment.steps
    assert 0 <= part.start < part.stop <= steps, f"steps {part} of {steps}"
    assert (x is None) == (part.start == 0), "a walk starts from noise, and goes on from where it led"
    first = next(noise(0)) if x is None else x
    path = _Walk(model, _generation(card, "generate"), steps, first)
    if x is None:
        x = joint.begun(path.sigmas, iter((first,)))
    draws = (draw for step in part for draw in itertools.islice(noise(step + 1), path.stepping.draws))
    x = joint.impute_steps(path.denoise, known, x, joint.Part(path.sigmas, part), draws, path.stepping)
    return joint.held(known, x) if part.stop == steps else x


class _Walk:
    """A card's settings as the samplers take them, on the device and in the precision of `like`."""

    def __init__(self, model: JointModel, settings: WalkSettings, steps: int, like: Tensor) -> None:
        levels = diffusion_schedule(max(steps, 1), settings.sigma_min, settings.sigma_max, settings.rho)
        limit = model.output_limit
        self.denoise: Denoiser = model.denoise if limit is None else clamped(model.denoise, limit)
        self.sigmas = levels.to(like)
        self.stepping = Stepping(corrections=settings.corrections, churn=settings.churn)


def _prior(card: ModelCard, ability: str) -> PriorSettings:
    if card.prior is None or ability not in card.abilities:
        raise ModelCannot(card.name, ability, card.abilities)
    return card.prior


def _generation(card: ModelCard, ability: str) -> WalkSettings:
    generation = _prior(card, ability).generation
    assert generation is not None, "both abilities need it"
    return generation


def _again(first: Tensor, rest: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from rest
