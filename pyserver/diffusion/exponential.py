"""Separation with a joint prior in few steps: an exponential integrator for the posteriors of `posteriors`.

Of a posterior's slope only the network's answer is not linear in the sources. What is linear is integrated exactly
along log sigma, the answer's change is extrapolated from the step before (as DPM-Solver++ 2M does for one source, Lu et
al. 2022). So no number of steps diverges, where Euler's method does as soon as a level falls by more than the
posterior's stiffness allows (`joint.error_gain`): five sources want levels that fall by less than two fifths. One
network evaluation a step, for the first order and the second.

Axes: B batch, S sources, any others, L samples.
"""

import itertools
from collections.abc import Iterator

from torch import Tensor

from pyserver.diffusion.joint import Stepping, begun
from pyserver.diffusion.posteriors import Pull


def separate(pull: Pull, sigmas: Tensor, noise: Iterator[Tensor], stepping: Stepping) -> Tensor:
    """Sources of the mixture that `pull` was made for; `sigmas` from `diffusion_schedule`.

    Draws of noise as in `joint.separate`: the first is the start, then one before every step, and one between the
    corrections of a step. Noise on the way would be extrapolated with the answer, so with it steps are of first order.
    """
    gamma = stepping.gamma(len(sigmas) - 1)
    smooth = gamma == 0 and stepping.corrections == 1
    x, before = begun(sigmas, noise), None
    for sigma, sigma_next in itertools.pairwise(sigmas):
        raised = sigma * (1 + gamma)
        for correction in range(stepping.corrections):
            x = x + (raised.square() - sigma.square()).sqrt() * next(noise)
            x, target = pull.target(x, raised)
            aim = target
            if smooth and before is not None and sigma_next > 0:
                earlier, earlier_sigma = before
                aim = target + (sigma / sigma_next).log() / (2 * (earlier_sigma / sigma).log()) * (target - earlier)
            before = target, sigma
            x = _pulled(pull, x, aim, sigma_next / raised)
            if correction < stepping.corrections - 1:
                x = x + (sigma.square() - sigma_next.square()).sqrt() * next(noise)
    return x


def _pulled(pull: Pull, x: Tensor, aim: Tensor, kept: Tensor) -> Tensor:
    """Where x is once the level is `kept` of what it was: exact for an aim that stays."""
    away = x - aim
    common = pull.common(away)
    return aim + kept * (away - common) + kept**pull.stiffness * common
