"""Weights as safetensors files of a bounded size, which the server merges."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from pyserver.errors import StemlineError

MIB = 1 << 20
_HEADER_BYTES = 160  # of a tensor's entry beside its name: type, shape, offsets, and its part of the padding


class ShardTooSmall(StemlineError):
    """One tensor alone is larger than a file may be."""

    reason = "SHARD_TOO_SMALL"

    def __init__(self, key: str, needed_bytes: int) -> None:
        super().__init__(f"{key} alone takes {needed_bytes / MIB:.2f} MiB: allow larger shards", key=key)


def shards(weights: Mapping[str, Tensor], limit_bytes: int | None) -> list[dict[str, Tensor]]:
    """Tensors in their order, in as few files as it allows; all in one without a limit. Raises ShardTooSmall."""
    if limit_bytes is None:
        return [dict(weights)]
    parts: list[dict[str, Tensor]] = [{}]
    room = limit_bytes - _HEADER_BYTES
    for key, tensor in weights.items():
        needed = tensor.nbytes + len(key.encode()) + _HEADER_BYTES
        if needed > limit_bytes - _HEADER_BYTES:
            raise ShardTooSmall(key, needed + _HEADER_BYTES)
        if needed > room:
            parts.append({})
            room = limit_bytes - _HEADER_BYTES
        parts[-1][key] = tensor
        room -= needed
    return parts


def write_shards(weights: Mapping[str, Tensor], folder: Path, limit_bytes: int | None = None) -> tuple[str, ...]:
    """Names of the files, `model.safetensors` or `model-00001-of-00003.safetensors` and so on."""
    parts = shards(weights, limit_bytes)
    names = tuple(f"model-{number:05d}-of-{len(parts):05d}.safetensors" for number in range(1, len(parts) + 1))
    names = names if len(parts) > 1 else ("model.safetensors",)
    for name, part in zip(names, parts, strict=True):
        # cloned, since a network may hold one tensor under several names and the format allows no sharing
        save_file({key: tensor.detach().cpu().clone().contiguous() for key, tensor in part.items()}, folder / name)
    return names
