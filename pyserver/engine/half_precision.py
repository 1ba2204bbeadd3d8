"""Core networks in half precision, for models that it does not harm.

Only the cores (pyserver.models.cores) are computed so, by autocast: STFTs, spectra, levels and the sampler stay in
float32. Whether it harms is found out on the device itself, from one window.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyserver.engine.messages import Audio
from pyserver.models.cores import cores, own_modules, put_together, surround, take_apart
from pyserver.models.interface import AnyModel

LEAST_DB = 50.0
"""How far the difference from float32 has to lie below the stems, all of them together, to be taken by itself."""
INSISTED_DB = 30.0
"""The same where somebody insists: a thirtieth of the stems' level. Beyond that something is wrong."""
NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16"}
_GPU = (torch.float16, torch.bfloat16)  # the more exact one first; where its range is too small, the other
_CPU = (torch.bfloat16,)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)  # what autocast casts weights of


def is_faster(device: torch.device) -> bool:
    """GPUs with tensor cores, processors that multiply in bf16: others simulate it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (7, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def is_default(device: torch.device) -> bool:
    """On GPUs. A small model gains little from it on a CPU, and the next processor would give other bits."""
    return device.type == "cuda" and is_faster(device)


class HalfPrecision:
    """A switch around the cores of a model that has some: off at first."""

    def __init__(self, model: AnyModel, architecture: str, device: torch.device) -> None:
        self.dtype: torch.dtype | None = None
        self.found_db = np.inf
        """How far the last one tried was from float32."""
        self._device = device
        self._modules = [module for core in cores(model, architecture) for module in own_modules(model, core)]
        for core in cores(model, architecture):
            surround(model, core, self._around)

    def choose(self, separate: Callable[[], Audio], least_db: float) -> torch.dtype | None:
        """Switches to the first precision whose stems are close enough to those in float32; off if there is none."""
        self.dtype = None
        whole = separate()
        for dtype in _CPU if self._device.type == "cpu" else _GPU:
            self.dtype = dtype
            self.found_db = signal_to_error_db(whole, separate())
            if self.found_db >= least_db:
                return dtype
        self.dtype = None
        return None

    def keep(self) -> None:
        """Has the weights in the chosen precision for good, which gives the same bits from half of the memory."""
        assert self.dtype
        for module in self._modules:
            for layer in module.modules():
                if isinstance(layer, _LAYERS):
                    layer.to(self.dtype)

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
