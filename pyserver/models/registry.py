"""Architectures by the name that a model card gives. Each is imported only when it is built."""

from collections.abc import Callable, Mapping
from typing import Any

from pyserver.errors import StemlineError
from pyserver.models.interface import AnyModel

Config = Mapping[str, Any]


class UnknownArchitecture(StemlineError):
    """A model card names an architecture that this version does not have."""

    reason = "UNKNOWN_ARCHITECTURE"

    def __init__(self, architecture: str) -> None:
        known = ", ".join(sorted(ARCHITECTURES))
        message = f"this version has no architecture {architecture!r}, only {known}: update Stemline"
        super().__init__(message, architecture=architecture)


def _dicose_unet(config: Config) -> AnyModel:
    from pyserver.models.dicose import DicoseUNet

    return DicoseUNet.from_config(config)


def _dicose_bs_roformer(config: Config) -> AnyModel:
    from pyserver.models.dicose import DicoseBSRoformer

    return DicoseBSRoformer.from_config(config)


def _band_split(config: Config) -> AnyModel:
    from pyserver.models import band_split

    return band_split.build(config)


def _diff_vs(config: Config) -> AnyModel:
    from pyserver.models import diff_vs

    return diff_vs.build(config)


def _msdm(config: Config) -> AnyModel:
    from pyserver.models.msdm import JointSources

    return JointSources.from_config(config)


def _isdm(config: Config) -> AnyModel:
    from pyserver.models.msdm import IndependentSources

    return IndependentSources.from_config(config)


def _fixed_shares(config: Config) -> AnyModel:
    from pyserver.models.shares import FixedShares

    return FixedShares.from_config(config)


ARCHITECTURES: dict[str, Callable[[Config], AnyModel]] = {
    "band_split": _band_split,
    "dicose_bs_roformer": _dicose_bs_roformer,
    "dicose_unet": _dicose_unet,
    "diff_vs": _diff_vs,
    "fixed_shares": _fixed_shares,
    "isdm": _isdm,
    "msdm": _msdm,
}


def build(architecture: str, config: Config) -> AnyModel:
    """An untrained model from what its card says; on the meta device if that is torch's default at the time."""
    if architecture not in ARCHITECTURES:
        raise UnknownArchitecture(architecture)
    return ARCHITECTURES[architecture](config)
