"""Core networks in half precision, for models that it does not harm.

Only the cores (pyserver.models.cores) are computed so, by autocast: STFTs, spectra, levels and the sampler stay in
float32. Whether it harms is found out on the device itself, from one window.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyserver.engine.messages import Audio
from pyserver.models.cores import cores, put_together, surround, take_apart
from pyserver.models.interface import AnyModel

LEAST_DB = 50.0
"""How far the difference from float32 has to lie below the stems, all of them together."""
NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16"}
_CANDIDATES = (torch.float16, torch.bfloat16)  # the more exact one first; where its range is too small, the other


def is_faster(device: torch.device) -> bool:
    """GPUs with tensor cores."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


class HalfPrecision:
    """A switch around the cores of a model that has some: off at first."""

    def __init__(self, model: AnyModel, architecture: str, device: torch.device) -> None:
        self.dtype: torch.dtype | None = None
        self._device = device
        for core in cores(model, architecture):
            surround(model, core, self._around)

    def choose(self, separate: Callable[[], Audio], least_db: float) -> torch.dtype | None:
        """Switches to the first precision whose stems are close enough to those in float32; off if there is none."""
        self.dtype = None
        whole = separate()
        for dtype in _CANDIDATES:
            self.dtype = dtype
            if signal_to_error_db(whole, separate()) >= least_db:
                return dtype
        self.dtype = None
        return None

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """For as long as the context lasts, and for all threads."""
        dtype, self.dtype = self.dtype, None
        try:
            yield
        finally:
            self.dtype = dtype

    def _around(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        def computed(*positional: Any, **named: Any) -> Any:
            if self.dtype is None:
                return compute(*positional, **named)
            with torch.autocast(self._device.type, self.dtype):
                made = compute(*positional, **named)
            tensors: list[Tensor] = []
            structure = take_apart(made, tensors)
            return put_together(structure, (tensor.float() for tensor in tensors))

        return computed


def signal_to_error_db(stems: Audio, found: Audio) -> float:
    """Minus infinity where something is not finite."""
    if not np.isfinite(found).all():
        return -np.inf
    signal, error = (np.square(audio, dtype=np.float64).sum() for audio in (stems, found - stems))
    return float(10 * np.log10(max(signal, 1e-30) / max(error, 1e-30)))
