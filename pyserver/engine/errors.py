"""What can go wrong in the engine process and is worth telling a user. Needs no torch: both processes raise these."""

from collections.abc import Sequence

from pyserver.errors import StemlineError


class GpuNotAvailable(StemlineError):
    """The GPU that was asked for cannot be used; `--cpu` always can."""

    reason = "GPU_NOT_AVAILABLE"


class HalfPrecisionNotAvailable(StemlineError):
    """Somebody insists on it, and the device would only simulate it."""

    reason = "HALF_PRECISION_NOT_AVAILABLE"

    def __init__(self, device: str) -> None:
        super().__init__(
            f"{device} does not compute in half precision: that takes a GPU with tensor cores, or a processor with "
            "AVX-512 BF16 or AMX; leave --backend out",
            device=device,
        )


class EngineOutOfMemory(StemlineError):
    """A window did not fit into the device's memory."""

    reason = "OUT_OF_MEMORY"


class ModelOutputNotFinite(StemlineError):
    """A model gave NaN or Inf for a window, also in full precision; the message says which window."""

    reason = "MODEL_OUTPUT_NOT_FINITE"


class ModelNotLoadable(StemlineError):
    """A model's files do not fit the network its card names."""

    reason = "MODEL_BROKEN"


class ModelCannot(StemlineError):
    """A model was asked for what its card does not say it can do."""

    reason = "MODEL_CANNOT"

    def __init__(self, model: str, ability: str, abilities: Sequence[str]) -> None:
        can = ", ".join(abilities)
        super().__init__(f"model {model} cannot {ability}, only {can}", model=model, ability=ability, abilities=can)


class EngineCrashed(StemlineError):
    """The engine process died again and again on the same work; repeating it once more would not help."""

    reason = "ENGINE_CRASHED"


class EngineClosed(StemlineError):
    """The server is shutting down: the window was not computed and will not be."""

    reason = "SHUTTING_DOWN"


class EngineFailed(StemlineError):
    """An error in the engine that nobody foresaw. The trace is in the log, under the `error_id` of the metadata."""

    reason = "INTERNAL"
