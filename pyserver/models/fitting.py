"""Whether the tensors of a checkpoint are exactly those of a network."""

from collections.abc import Mapping
from typing import Any

import torch

from pyserver.errors import StemlineError
from pyserver.models import registry
from pyserver.models.torch_archive import StoredTensor

Tensors = Mapping[str, StoredTensor]


class KeysDoNotFit(StemlineError):
    """Names or shapes in the checkpoint are not exactly those of the network."""

    reason = "KEYS_DO_NOT_FIT"


def require_exact(architecture: str, config: Mapping[str, Any], parts: Tensors) -> frozenset[str]:
    """Every tensor has its place in the network, and every place its tensor. Allocates nothing; returns the places."""
    with torch.device("meta"):
        network = registry.build(architecture, config)
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = shapes(parts)
    missing = [key for key in wanted if key not in found]
    unused = [key for key in found if key not in wanted]
    misshapen = [
        f"{key} {found[key]} for {wanted[key]}" for key in found if key in wanted and found[key] != wanted[key]
    ]
    problems = {"missing": missing, "unused": unused, "of another shape": misshapen}
    if any(problems.values()):
        told = "; ".join(f"{len(keys)} {what}: {some(keys)}" for what, keys in problems.items() if keys)
        raise KeysDoNotFit(f"the checkpoint does not fit the network ({told})")
    return frozenset(wanted)


def below(tensors: Tensors, prefix: str) -> dict[str, StoredTensor]:
    """What stands under `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {key: tensor.shape for key, tensor in tensors.items()}


def some(names: list[str]) -> str:
    """The first few, for a message."""
    return ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
