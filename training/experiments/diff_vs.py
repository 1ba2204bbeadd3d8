"""Diff-VS: vocals of MUSDB18-HQ at full size, and a small one for a CPU.

P marks what is published (arXiv 2604.01120), O what we chose; the paper's recipe is not public.
"""

from collections.abc import Callable
from dataclasses import replace

from pyserver.models.diff_vs import STEMS
from pyserver.models.diff_vs_network import DiffVSConfig
from training.data.effects import EffectsConfig
from training.data.pool import CropConfig
from training.diff_vs_experiment import Balance, DiffVSExperiment, NoiseLevels, default_sampler
from training.loop import Precision, TrainConfig
from training.optimisers import OptimiserConfig
from training.validation import ValidationConfig

MUSDB = DiffVSConfig()
"""57.4 M parameters (P: 57 M, EDM's DDPM++ with a band split and dual-path RoFormer blocks; O: everything else)."""

SMALL = DiffVSConfig(
    hop_length=1024,
    bands=((8, 4), (8, 8), (8, 16), (4, 32), (3, 160), (1, 193)),
    dim=32,
    multipliers=(1, 2, 2),
    blocks=1,
    attention_levels=(1, 2),
    dim_head=32,
    dropout=0.0,
    head_hidden=64,
)
LOUDNESS = EffectsConfig(loudness=(0.5, 1.5), swap_chance=0.5, polarity_chance=0.5)


def musdb() -> DiffVSExperiment:
    """P: chunks of 6 s, one GPU for about a week. O: batch, optimiser, number of steps, remixing and loudness."""
    train = TrainConfig(
        stage="generator",
        steps=400_000,
        batch_size=16,
        micro_batch=8,
        crop=CropConfig(samples=264_600, remix=0.5, repitch=0.0, min_active_stems=0),
        augment=LOUDNESS,
        optimiser=OptimiserConfig(
            name="adam",
            learning_rate=2e-4,
            weight_decay=0.0,
            warmup_steps=2000,
            decay_steps=50_000,
            clip_norm=1.0,
            ema_decay=0.9999,
        ),
        precision=Precision.BF16,
        checkpoint_activations=True,
        save_every=1000,
        validate_every=20_000,
    )
    return DiffVSExperiment(
        name="diff_vs_musdb",
        train=train,
        stems=STEMS,
        validation=ValidationConfig(songs=14, seconds=60.0),
        network=MUSDB,
        sampler=default_sampler(MUSDB),
    )


def small() -> DiffVSExperiment:
    """For one core: a few songs with singing, whose vocals meet the accompaniments of all songs.

    Noise levels lie higher than EDM's: where little noise hides the vocals, a short training has nothing to learn.
    """
    train = TrainConfig(
        stage="generator",
        steps=20_000,
        batch_size=4,
        crop=CropConfig(samples=131_072, remix=0.8, repitch=0.2, min_active_stems=2, only_present=True),
        augment=LOUDNESS,
        optimiser=OptimiserConfig(
            name="muon", learning_rate=0.02, warmup_steps=200, decay_steps=500, clip_norm=1.0, ema_decay=0.998
        ),
        validate_every=1000,
    )
    return DiffVSExperiment(
        name="stemline_small_diff_vs",
        train=train,
        stems=STEMS,
        validation=ValidationConfig(songs=1, seconds=60.0),
        network=SMALL,
        sampler=replace(default_sampler(SMALL), kind="edm"),  # so little trained, it is worse by Heun's method
        levels=NoiseLevels(log_mean=0.0, log_std=1.6),
        balance=Balance(low_db=-9.0, high_db=3.0, silent_chance=0.08),
        tried_steps=(1, 3),
        statistics_crops=64,
    )


EXPERIMENTS: dict[str, Callable[[], DiffVSExperiment]] = {
    "diff_vs_musdb": musdb,
    "stemline_small_diff_vs": small,
}
