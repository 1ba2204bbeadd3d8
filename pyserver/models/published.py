"""What is known of the published checkpoints of DiCoSe, MSDM and ISDM: inference settings, and facts for their cards.

Sources: the released configurations, arXiv 2412.06965 and 2302.02257. Levels and windows for overlap-add are ours: the
published evaluation cuts songs into blocks without overlap and never normalises them, so sigma is relative to the level
of the training mixtures. That level was measured where it could be: the median over windows of mixtures rendered with
Slakh2100's recipe (0.105; nine tenths between 0.07 and 0.14), and of mastered songs of MUSDB18's kind (0.098).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyserver.models.card import PriorSettings, RefinerSettings, WalkSettings
from pyserver.models.dicose import published_bs_roformer, published_unet
from pyserver.models.msdm import published_isdm, published_msdm


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """One of the two published families. Lengths are samples at `sample_rate_hz`.

    `refiners` and `quality` go by training stage: "det", "diffusion", "cd".
    """

    name: str
    architecture: str
    title: str
    network: Mapping[str, Any]
    stems: tuple[str, ...]
    sample_rate_hz: int
    window_samples: int
    margin_samples: int
    fade_samples: int
    live_window_samples: int
    live_lookahead_samples: int
    reference_rms: float
    complete: bool
    sigma_data: float
    refiners: Mapping[str, RefinerSettings]
    training_data: str
    quality: Mapping[str, Mapping[str, float]]


_QUALITY_KEYS = ("si_sdr_db", "sdr_median_db")


def _quality(separator: tuple[float, float], diffusion: tuple[float, float], consistency: tuple[float, float]) -> Any:
    stages = {"det": separator, "diffusion": diffusion, "cd": consistency}
    return {stage: dict(zip(_QUALITY_KEYS, values, strict=True)) for stage, values in stages.items()}


BACKBONES = {
    "unet": Backbone(
        name="dicose-unet",
        architecture="dicose_unet",
        title="DiCoSe U-Net",
        network=published_unet().separator,
        stems=("bass", "drums", "guitar", "piano"),
        sample_rate_hz=22050,
        window_samples=262144,
        margin_samples=16384,
        fade_samples=8192,
        live_window_samples=65536,
        live_lookahead_samples=8192,
        reference_rms=0.105,
        complete=False,
        sigma_data=0.2,
        refiners={
            "cd": RefinerSettings(kind="consistency", default_steps=1, sigma_max={1: 0.01244}, sigma_min=1e-4, rho=9.0),
            "diffusion": RefinerSettings(
                kind="edm",
                default_steps=2,
                sigma_max={2: 0.01},
                sigma_min=1e-4,
                rho=9.0,
                corrections=2,
                churn=20.0,
            ),
        },
        training_data="Slakh2100 (mono, 22.05 kHz)",
        quality=_quality((21.384, 10.856), (22.747, 11.650), (23.073, 11.614)),
    ),
    "bs_roformer": Backbone(
        name="dicose-bs-roformer",
        architecture="dicose_bs_roformer",
        title="DiCoSe BS-RoFormer",
        network=published_bs_roformer().separator,
        stems=("drums", "bass", "other", "vocals"),
        sample_rate_hz=44100,
        window_samples=485100,
        margin_samples=22050,
        fade_samples=22050,
        live_window_samples=132300,
        live_lookahead_samples=11025,
        reference_rms=0.098,
        complete=True,
        sigma_data=0.06,
        refiners={
            "cd": RefinerSettings(
                kind="consistency", default_steps=1, sigma_max={1: 0.003934, 2: 0.004391}, sigma_min=1e-4, rho=9.0
            ),
            "diffusion": RefinerSettings(
                kind="edm", default_steps=3, sigma_max={3: 0.002}, sigma_min=1e-4, rho=9.0, corrections=1, churn=1.0
            ),
        },
        training_data="MUSDB18-HQ (stereo, 44.1 kHz)",
        quality=_quality((15.098, 9.999), (15.566, 10.581), (15.610, 10.602)),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPrior:
    """MSDM or ISDM; mono. `separation` is the best of table 5 with one correction more, `constrained` its best stem."""

    name: str
    architecture: str
    title: str
    network: Mapping[str, Any]
    separation: WalkSettings
    constrained: int = 0  # bass
    stems: tuple[str, ...] = BACKBONES["unet"].stems
    sample_rate_hz: int = 22050
    window_samples: int = 262144
    margin_samples: int = 16384
    fade_samples: int = 8192
    live_window_samples: int = 65536
    live_lookahead_samples: int = 8192
    reference_rms: float = 0.105
    sigma_data: float = 0.2
    training_data: str = "Slakh2100 (mono, 22.05 kHz)"
    quality: Mapping[str, float]

    def prior(self, stems: tuple[str, ...]) -> PriorSettings:
        """For these stems. Music is generated from a higher level than it is separated from, as published."""
        return PriorSettings(
            separation=self.separation,
            posterior="dirac",
            constrained_stem=stems[self.constrained],
            generation=WalkSettings(
                default_steps=150, sigma_min=1e-4, sigma_max=20.0, rho=7.0, corrections=2, churn=20.0, fewest_steps=20
            ),
            accompanies=self.architecture == "msdm",
        )


def _separation(churn: float, fewest_steps: int) -> WalkSettings:
    """With fewer steps than these the same churn makes errors grow (`diffusion.joint.error_gain`)."""
    return WalkSettings(
        default_steps=150,
        sigma_min=1e-4,
        sigma_max=1.0,
        rho=7.0,
        corrections=2,
        churn=churn,
        fewest_steps=fewest_steps,
    )


PRIORS = {
    "msdm": PublishedPrior(
        name="msdm",
        architecture="msdm",
        title="MSDM",
        network=published_msdm().network,
        separation=_separation(churn=20.0, fewest_steps=60),
        quality={"si_sdr_i_db": 16.48},
    ),
    "isdm": PublishedPrior(
        name="isdm",
        architecture="isdm",
        title="ISDM",
        network=published_isdm().network,
        separation=_separation(churn=40.0, fewest_steps=100),
        quality={"si_sdr_i_db": 17.27},
    ),
}
