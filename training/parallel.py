"""One run on several processes, as `torchrun` starts them: who has which items, and sums over all.

Gradients are summed by hand and not by `DistributedDataParallel`: a stage's loss calls parts of its networks rather
than one forward pass, and a step may leave weights without gradient (mask heads of stems that were not drawn).
Adding up in few large pieces costs no more than that class would without overlap.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

CPU = torch.device("cpu")
PIECE_VALUES = 1 << 26
PATIENCE = timedelta(hours=2)  # of the other processes, while the first one validates


@dataclass(frozen=True, slots=True)
class World:
    """This process among those of a run."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """The same tensor with the sum over all processes in it."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values


def join(device: str = "") -> World:
    """Joins the processes that `torchrun` started, or is alone. `device`: cpu or cuda; a GPU if there is one."""
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if "WORLD_SIZE" not in os.environ:
        return World(device=torch.device(kind))
    where = torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(where)
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    return World(distributed.get_rank(), distributed.get_world_size(), where)


def leave(world: World) -> None:
    if world.size > 1:
        distributed.destroy_process_group()


def sum_gradients(weights: Sequence[torch.nn.Parameter], world: World) -> None:
    """Every gradient becomes the sum over all processes; a weight that none has used keeps having none."""
    if world.size == 1:
        return
    used = torch.tensor([float(weight.grad is not None) for weight in weights], device=world.device)
    piece: list[torch.nn.Parameter] = []
    for weight, users in zip(weights, world.summed(used).tolist(), strict=True):
        if users:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            piece.append(weight)
        if sum(one.numel() for one in piece) > PIECE_VALUES:
            _sum_piece(piece, world)
            piece = []
    if piece:
        _sum_piece(piece, world)


def _sum_piece(weights: Sequence[torch.nn.Parameter], world: World) -> None:
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    flat = world.summed(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, summed in zip(gradients, torch.split(flat, [one.numel() for one in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))
