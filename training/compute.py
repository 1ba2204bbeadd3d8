"""What a step of each stage costs, in forward passes of networks of one size, so that controls get no less and no more.

A backward pass counts as two forward ones. All stages of a refiner begin with a pass of the frozen separator.
"""

from training.loop import TrainConfig

SEPARATOR, TRAINED = 1.0, 3.0
REFINER_STEP = SEPARATOR + TRAINED  # of diffusion, and of the control


def distillation_step(mean_heun_steps: float) -> float:
    """Two passes of the teacher a Heun step, one of the target, two of the student, which is trained."""
    return SEPARATOR + 2 * mean_heun_steps + 1 + 2 * TRAINED


def control_steps(diffusion: TrainConfig, consistency: TrainConfig, mean_heun_steps: float) -> int:
    """Steps of the control, at diffusion's batch size, that cost what diffusion and its distillation cost together."""
    items = consistency.steps * consistency.batch_size * distillation_step(mean_heun_steps) / REFINER_STEP
    return diffusion.steps + round(items / diffusion.batch_size)
