"""Options that change how a network's blocks are computed, not what: activation checkpointing and compilation."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Kinds = tuple[type[nn.Module], ...]


def blocks_of(network: nn.Module, kinds: Kinds) -> Iterator[nn.Module]:
    """The outermost modules of these kinds."""
    for child in network.children():
        if isinstance(child, kinds):
            yield child
        else:
            yield from blocks_of(child, kinds)


def checkpoint_activations(network: nn.Module, kinds: Kinds) -> int:
    """From now on these blocks keep their inputs only and compute the rest again on the way back; how many there are.

    A block changes its class, not its `forward`: copies of the network stay independent of it.
    """
    blocks = list(blocks_of(network, kinds))
    for block in blocks:
        block.__class__ = _checkpointed(type(block))  # type: ignore[arg-type]
    return len(blocks)


@cache
def _checkpointed(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: nn.Module, *values: Any, **named: Any) -> Any:
        def compute(*again: Any) -> Any:
            return kind.forward(self, *again, **named)

        if not torch.is_grad_enabled():
            return compute(*values)
        return checkpoint(compute, *values, use_reentrant=False)

    return type(f"Checkpointed{kind.__name__}", (kind,), {"forward": forward})


def compile_blocks(network: nn.Module, kinds: Kinds) -> int:
    """Compiles block by block: equal blocks share the code, and compiling takes seconds instead of minutes."""
    blocks = list(blocks_of(network, kinds))
    for block in blocks:
        block.compile()
    return len(blocks)
