"""Weights of a golden folder: shards merged and aliases expanded, as its config.json says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn


class Checkpoints:
    """The Lightning state dicts of one folder, by stage (`det`, `diffusion`, `cd`)."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder = folder
        self._entries: Mapping[str, Any] = config["checkpoints"]
        self._expanded: dict[str, dict[str, Tensor]] = {}

    def __iter__(self) -> Any:
        return iter(self._entries)

    def __contains__(self, stage: str) -> bool:
        return stage in self._entries

    def declared_keys(self, stage: str) -> int:
        return int(self._entries[stage]["num_keys_in_lightning_state_dict"])

    def state(self, stage: str) -> dict[str, Tensor]:
        """Every key of the checkpoint."""
        if stage not in self._expanded:
            entry = self._entries[stage]
            tensors: dict[str, Tensor] = {}
            for name in entry["files"]:
                tensors |= load_file(self._folder / name)
            for alias in entry.get("aliases", []):
                same = alias["same_tensors_as"]
                source = tensors if same["checkpoint"] == stage else self.state(same["checkpoint"])
                tensors |= {
                    alias["alias_prefix"] + key.removeprefix(same["prefix"]): tensor
                    for key, tensor in source.items()
                    if key.startswith(same["prefix"])
                }
            self._expanded[stage] = tensors
        return self._expanded[stage]

    def load(self, network: nn.Module, stage: str, prefix: str) -> None:
        """Strictly: a missing or an extra key below `prefix` is an error."""
        state = {key.removeprefix(prefix): t for key, t in self.state(stage).items() if key.startswith(prefix)}
        network.load_state_dict(state, strict=True)
        network.eval()
