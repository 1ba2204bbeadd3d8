"""Every experiment by its name."""

from collections.abc import Callable, Mapping
from functools import partial

from training.experiments import dicose, diff_vs, priors, stemline_small
from training.experiments.experiment import Experiment
from training.loop import TrainConfig
from training.small_stages import SmallExperiment


def _small(name: str, settings: Callable[[], TrainConfig]) -> SmallExperiment:
    return SmallExperiment(
        name=name,
        train=settings(),
        stems=stemline_small.STEMS,
        network=stemline_small.MODEL,
        refiner_loss=stemline_small.REFINER,
    )


EXPERIMENTS: Mapping[str, Callable[[], Experiment]] = {
    **{name: partial(_small, name, settings) for name, settings in stemline_small.EXPERIMENTS.items()},
    **dicose.EXPERIMENTS,
    **diff_vs.EXPERIMENTS,
    **priors.EXPERIMENTS,
}


class UnknownExperiment(ValueError):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no experiment {name!r}, only {', '.join(EXPERIMENTS)}")


def experiment(name: str) -> Experiment:
    """Raises UnknownExperiment, which lists all."""
    if name not in EXPERIMENTS:
        raise UnknownExperiment(name)
    return EXPERIMENTS[name]()
