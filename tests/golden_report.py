"""What a replay of golden vectors finds: one line a case, and whether any is over its tolerance."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Vectors:
    """The arrays of one .npz by name, as tensors; knows which of them have not been looked at."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as archive:
            self._arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
        self._unused = set(self._arrays)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> Tensor:
        self._unused.discard(name)
        return torch.from_numpy(np.array(self._arrays[name]))

    def get(self, name: str) -> Tensor | None:
        return self[name] if name in self._arrays else None

    def matching(self, pattern: str, *, in_file_order: bool = False) -> list[re.Match[str]]:
        """Names that match a whole regular expression, in natural order."""
        found = [match for name in self._arrays if (match := re.fullmatch(pattern, name))]
        if in_file_order:
            return found
        return sorted(found, key=lambda m: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", m.group())])

    def unused_groups(self) -> dict[str, list[str]]:
        """What nothing has looked at: the parts of the names before the first dot, and what is after it."""
        groups: dict[str, list[str]] = {}
        for name in sorted(self._unused):
            group, _, rest = name.partition(".")
            groups.setdefault(group, []).append(rest)
        return groups


@dataclass
class Report:
    """Prints as it goes; `failed` counts what is over its tolerance, `passed` what is within it."""

    passed: int = 0
    failed: int = 0
    not_yet: int = 0
    errors: dict[str, float] = field(default_factory=dict)

    def compare(self, case: str, got: Tensor, want: Tensor | None, tolerance: float, *, relative: bool = False) -> None:
        """Largest absolute (or, with `relative`, relative) difference against a tolerance; nothing without `want`."""
        if want is None:
            return
        got, want = got.detach().double(), want.double()
        if got.numel() == want.numel() and got.squeeze().shape == want.squeeze().shape:
            difference = (got.reshape(want.shape) - want).abs()
            if relative:
                difference = torch.where(difference == 0, 0.0, difference / want.abs())
            error = float(difference.max()) if difference.numel() else 0.0
        else:
            self.fail(case, f"shape {tuple(got.shape)} instead of {tuple(want.shape)}")
            return
        self.errors[case] = error
        within = error <= tolerance  # false for NaN
        self.passed += within
        self.failed += not within
        kind = "relative" if relative else "absolute"
        print(f"{'PASS' if within else 'FAIL'}     {case:<68} error {error:9.2e}  tolerance {tolerance:7.0e} {kind}")

    def fail(self, case: str, why: str) -> None:
        self.failed += 1
        print(f"FAIL     {case:<68} {why}")

    def later(self, case: str, why: str = "") -> None:
        """A case that this version does not replay; it decides nothing."""
        self.not_yet += 1
        print(f"not yet  {case:<68} {why}".rstrip())

    def leftovers(self, prefix: str, vectors: Vectors) -> None:
        for group, names in vectors.unused_groups().items():
            self.later(f"{prefix} {group}", ", ".join(filter(None, names)))
