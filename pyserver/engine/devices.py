"""What this machine can compute on: processors by name, usable cores, GPUs."""

import math
import os
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from pyserver.engine.errors import GpuNotAvailable
from pyserver.engine.messages import OtherDevice


def other_devices(used: torch.device) -> tuple[OtherDevice, ...]:
    """What else this machine could compute on, without putting anything on it: GPUs by index, then the CPU."""
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if used.type != "cuda" or (used.index or 0) != index:
            properties = torch.cuda.get_device_properties(index)
            found.append((index, properties.name, "torch-cuda", properties.total_memory))
    if used.type != "cpu":
        found.append((0, cpu_name(), "torch-cpu", psutil.virtual_memory().total))
    return tuple(
        OtherDevice(index=index, name=name, backend=backend, total_bytes=total) for index, name, backend, total in found
    )


def pick_device(name: str) -> torch.device:
    """`auto` is the first GPU, if there is one. Raises GpuNotAvailable with what to do about it."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise GpuNotAvailable(f'there is no device called "{name}"; use cpu or cuda:N', device=name) from None
    if device.type != "cuda" or not torch.cuda.is_available():
        built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs only"
        raise GpuNotAvailable(
            f"no GPU can be used for {name}: this PyTorch is built for {built_for} and sees no NVIDIA GPU; "
            "start with --cpu, or see `python -m pyserver doctor`",
            device=name,
        )
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise GpuNotAvailable(f"there is no GPU {device.index}: this machine has {count}, counted from 0", device=name)
    return device


def compute_repeatably(device: torch.device) -> None:
    """The same bits for the same work. On a CPU the operators we use are deterministic as they are."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def usable_cores() -> int:
    """Physical cores, or fewer if this process may only use some of them."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed, _cgroup_cores()))


def _cgroup_cores() -> int:
    """How many cores a container's quota amounts to; many where there is none."""
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            return max(1, math.ceil(int(quota) / int(period)))
    return 1 << 16


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def cpu_name() -> str:
    """As people call it, where the system says so."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "CPU"
