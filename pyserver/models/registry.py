"""Architectures by the name that a model card gives. Each is imported only when it is built."""

from collections.abc import Callable, Mapping
from typing import Any

from pyserver.errors import StemlineError
from pyserver.models.interface import SeparationModel

Config = Mapping[str, Any]


class UnknownArchitecture(StemlineError):
    """A model card names an architecture that this version does not have."""

    reason = "UNKNOWN_ARCHITECTURE"

    def __init__(self, architecture: str) -> None:
        known = ", ".join(sorted(ARCHITECTURES))
        message = f"this version has no architecture {architecture!r}, only {known}: update Stemline"
        super().__init__(message, architecture=architecture)


def _dicose_unet(config: Config) -> SeparationModel:
    from pyserver.models.dicose import DicoseUNet

    return DicoseUNet.from_config(config)


def _dicose_bs_roformer(config: Config) -> SeparationModel:
    from pyserver.models.dicose import DicoseBSRoformer

    return DicoseBSRoformer.from_config(config)


def _band_split(config: Config) -> SeparationModel:
    from pyserver.models import band_split

    return band_split.build(config)


ARCHITECTURES: dict[str, Callable[[Config], SeparationModel]] = {
    "band_split": _band_split,
    "dicose_bs_roformer": _dicose_bs_roformer,
    "dicose_unet": _dicose_unet,
}


def build(architecture: str, config: Config) -> SeparationModel:
    """An untrained model from what its card says; on the meta device if that is torch's default at the time."""
    if architecture not in ARCHITECTURES:
        raise UnknownArchitecture(architecture)
    return ARCHITECTURES[architecture](config)
