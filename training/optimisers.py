"""The optimisers of the recipes, behind one name each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

ADAMW_BESIDE_MUON = 0.1
"""AdamW's learning rate as a part of Muon's: a Muon step has the size of the rate itself, AdamW's is per weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserConfig:
    """Learning rate rises over `warmup_steps`, stays, and falls linearly over the last `decay_steps`.

    `betas` None are the optimiser's own. `clip_norm` 0: gradients are not clipped. `ema_decay` 0: the average is the
    weights themselves; one that does not `ema_warms_up` decays by that much from the first step on.
    """

    name: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    betas: tuple[float, float] | None = None
    warmup_steps: int = 100
    decay_steps: int = 1000
    clip_norm: float = 5.0
    ema_decay: float = 0.999
    ema_warms_up: bool = True

    def rate_at(self, step: int, total_steps: int) -> float:
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        fall = min(1.0, (total_steps - step) / max(1, self.decay_steps))
        return self.learning_rate * rise * max(0.0, fall)

    def ema_decay_at(self, step: int) -> float:
        return min(self.ema_decay, (step + 1) / (step + 10)) if self.ema_warms_up else self.ema_decay


def clip_gradients(weights: Iterable[nn.Parameter], clip_norm: float) -> Tensor:
    """The norm of all gradients before they are clipped to `clip_norm`; with 0 they are left as they are."""
    used = [weight for weight in weights if weight.grad is not None]
    norm = nn.utils.get_total_norm([weight.grad for weight in used if weight.grad is not None])
    if clip_norm:
        nn.utils.clip_grads_with_norm_(used, clip_norm, norm)
    return norm


class Optimiser:
    """One or more of PyTorch's optimisers, each over its own weights, stepped as one."""

    def __init__(self, parts: Iterable[tuple[torch.optim.Optimizer, float]]) -> None:
        """Each with its learning rate as a part of the recipe's."""
        self._parts = list(parts)

    def set_rate(self, rate: float) -> None:
        for optimiser, part in self._parts:
            for group in optimiser.param_groups:
                group["lr"] = rate * part

    def zero_grad(self) -> None:
        for optimiser, _ in self._parts:
            optimiser.zero_grad(set_to_none=True)

    def step(self) -> None:
        for optimiser, _ in self._parts:
            optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        return {str(index): optimiser.state_dict() for index, (optimiser, _) in enumerate(self._parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for index, (optimiser, _) in enumerate(self._parts):
            optimiser.load_state_dict(state[str(index)])


_OF_TORCH: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "radam": torch.optim.RAdam,
    "muon": torch.optim.Muon,
}


def build_optimiser(trained: nn.Module, config: OptimiserConfig) -> Optimiser:
    """`muon` is Muon (Jordan et al. 2024) for the matrices of linear layers, and AdamW for everything else."""

    def over(weights: list[Tensor], name: str) -> torch.optim.Optimizer:
        betas = {} if config.betas is None or name == "muon" else {"betas": config.betas}
        return _OF_TORCH[name](weights, lr=config.learning_rate, weight_decay=config.weight_decay, **betas)

    wanted: list[Tensor] = [weight for weight in trained.parameters() if weight.requires_grad]
    if config.name != "muon":
        return Optimiser([(over(wanted, config.name), 1.0)])
    linear = {id(layer.weight) for layer in trained.modules() if isinstance(layer, nn.Linear)}
    matrices = [weight for weight in wanted if id(weight) in linear]
    others = [weight for weight in wanted if id(weight) not in linear]
    return Optimiser([(over(matrices, "muon"), 1.0), (over(others, "adamw"), ADAMW_BESIDE_MUON)])
