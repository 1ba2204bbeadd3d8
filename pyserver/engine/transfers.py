"""Tensors on their way to the device and back: through pinned memory to and from a GPU."""

import torch
from torch import Tensor

from pyserver.engine.messages import Audio


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """To a GPU without waiting: it computes meanwhile, and what uses the tensor is queued behind the copy."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Audio:
    """Waits for all that the tensor depends on."""
    whole = tensor.float()
    if whole.device.type != "cuda":
        return whole.numpy()
    pinned = torch.empty(whole.shape, pin_memory=True)
    pinned.copy_(whole, non_blocking=True)
    torch.cuda.current_stream(whole.device).synchronize()
    return pinned.numpy()
