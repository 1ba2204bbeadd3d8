"""MSDM and ISDM: the paper's runs on Slakh2100, and small ones for a CPU on songs rendered here."""

from collections.abc import Callable
from typing import Any

from pyserver.models.card import PriorSettings, WalkSettings
from pyserver.models.msdm import MsdmConfig, published_isdm, published_msdm
from pyserver.models.published import PRIORS
from training.data.effects import EffectsConfig
from training.data.pool import CropConfig
from training.dicose_objectives import NoiseConfig
from training.experiments import stemline_small
from training.experiments.dicose import ADAM, SLAKH_EPOCH_CROPS, VALIDATION
from training.loop import Precision, TrainConfig
from training.optimisers import OptimiserConfig
from training.prior_experiment import PriorExperiment, PriorWindows
from training.validation import ValidationConfig

SLAKH_EPOCHS = 300
"""The paper trains "until convergence" and says no more."""
SMALL_RATE_HZ = 11025
SMALL_RMS = 0.15


def _slakh(name: str, network: MsdmConfig) -> PriorExperiment:
    """Adam with 1e-4 and betas (0.9, 0.99), batches of 16 crops of 11.9 s, the levels and sigma_data of the release."""
    facts = PRIORS[name]
    return PriorExperiment(
        name=f"{name}_slakh",
        train=TrainConfig(
            stage="prior",
            steps=SLAKH_EPOCHS * SLAKH_EPOCH_CROPS // 16,
            batch_size=16,
            crop=CropConfig(samples=facts.window_samples, remix=0.0, repitch=0.0, min_active_stems=0, channels=1),
            augment=EffectsConfig(),
            optimiser=ADAM,
            precision=Precision.BF16,
            save_every=500,
            validate_every=4000,
        ),
        stems=facts.stems,
        sample_rate_hz=facts.sample_rate_hz,
        validation=VALIDATION,
        architecture=name,
        network=network,
        prior=facts.prior(facts.stems),
        windows=PriorWindows(
            window_samples=facts.window_samples,
            margin_samples=facts.margin_samples,
            fade_samples=facts.fade_samples,
            live_window_samples=facts.live_window_samples,
            live_lookahead_samples=facts.live_lookahead_samples,
        ),
        reference_rms=facts.reference_rms,
    )


def msdm_slakh() -> PriorExperiment:
    return _slakh("msdm", published_msdm())


def isdm_slakh() -> PriorExperiment:
    """All four networks in one run, of the same crops: they share nothing, so each is trained as if alone."""
    return _slakh("isdm", published_isdm())


def _small_network(stacked: int, channels: int) -> dict[str, Any]:
    return {
        "in_channels": stacked,
        "channels": channels,
        "patch_factor": 16,
        "resnet_groups": 8,
        "kernel_multiplier_downsample": 2,
        "multipliers": [1, 2, 4, 4],
        "factors": [2, 4, 4],
        "num_blocks": [2, 2, 2],
        "attentions": [False, False, True],
        "attention_heads": 4,
        "attention_features": 32,
        "attention_multiplier": 2,
    }


def _small(name: str, channels: int) -> PriorExperiment:
    """11 025 Hz: what a small network can learn in an hour lies below 5 kHz, and its second costs a quarter there."""
    stems, joint = stemline_small.STEMS, name == "msdm"
    # chosen on three songs of `val` after 3,000 steps
    separation = WalkSettings(
        default_steps=12, sigma_min=0.02, sigma_max=0.5, rho=7.0, churn=4.0, solver="exponential", draws=8
    )
    return PriorExperiment(
        name=f"stemline_small_{name}",
        train=TrainConfig(
            stage="prior",
            steps=5000 if joint else 3000,
            batch_size=4,
            # independent networks learn as well from stems that never met
            crop=CropConfig(
                samples=32768,
                remix=0.0 if joint else 0.5,
                repitch=0.15,
                min_active_stems=3 if joint else 2,
                channels=1,
            ),
            augment=EffectsConfig(loudness=(0.7, 1.4), polarity_chance=0.5),
            optimiser=OptimiserConfig(
                name="adamw",
                learning_rate=5e-4,
                weight_decay=1e-2,
                decay_steps=2000 if joint else 1500,
                clip_norm=1.0,
            ),
            save_every=100,
            validate_every=500,
        ),
        stems=stems,
        sample_rate_hz=SMALL_RATE_HZ,
        validation=ValidationConfig(songs=3, seconds=6.0),
        architecture=name,
        network=MsdmConfig(
            network=_small_network(len(stems) if joint else 1, channels), stems=len(stems), sigma_data=0.07
        ),
        prior=PriorSettings(
            separation=separation,
            posterior="projected",
            generation=WalkSettings(
                default_steps=80, sigma_min=1e-3, sigma_max=5.0, rho=7.0, corrections=2, churn=20.0, fewest_steps=8
            ),
            accompanies=joint,
        ),
        windows=PriorWindows(
            window_samples=65536,
            margin_samples=4096,
            fade_samples=2048,
            live_window_samples=32768,
            live_lookahead_samples=4096,
        ),
        reference_rms=SMALL_RMS,
        at_reference=True,
        noise=NoiseConfig(sigma_log_mean=-3.2, sigma_log_std=1.3),
    )


def stemline_small_msdm() -> PriorExperiment:
    return _small("msdm", channels=80)


def stemline_small_isdm() -> PriorExperiment:
    """Five networks that cost as much together as the joint one."""
    return _small("isdm", channels=32)


EXPERIMENTS: dict[str, Callable[[], PriorExperiment]] = {
    "msdm_slakh": msdm_slakh,
    "isdm_slakh": isdm_slakh,
    "stemline_small_msdm": stemline_small_msdm,
    "stemline_small_isdm": stemline_small_isdm,
}
