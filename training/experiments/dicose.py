"""DiCoSe's runs at the papers' and the published configurations' settings: U-Net, Slakh2100; BS-RoFormer, MUSDB18-HQ.

Where the two differ, the published configurations are followed, since the published checkpoints come from them; each
function says what they leave open. `micro_batch` is what one of their GPUs held; it may be lowered (`--micro-batch`).
"""

from collections.abc import Callable
from dataclasses import replace

from pyserver.models.dicose import published_bs_roformer, published_unet
from pyserver.models.published import BACKBONES
from training.compute import control_steps
from training.data.effects import EffectsConfig, bs_roformer_effects
from training.data.pool import CropConfig
from training.dicose_experiment import DicoseExperiment
from training.dicose_objectives import heun_step_chances
from training.dicose_stages import bs_roformer_musdb, unet_slakh
from training.loop import Precision, TrainConfig
from training.optimisers import OptimiserConfig
from training.validation import ValidationConfig

UNET, BS_ROFORMER = BACKBONES["unet"], BACKBONES["bs_roformer"]
VALIDATION = ValidationConfig(songs=10, seconds=60.0)
UNET_CROP = CropConfig(samples=262144, remix=0.0, repitch=0.0, min_active_stems=0, channels=1)
BS_ROFORMER_CROP = CropConfig(samples=485100, remix=1.0, repitch=0.0, min_active_stems=0, mixup=(0.2, 0.02))

SLAKH_EPOCH_CROPS = 31_400
"""Crops of 11.9 s in Slakh2100's 1500 training songs (104 hours): an epoch of the papers."""
MUSDB_EPOCH_STEPS = 4000

ADAM = OptimiserConfig(
    name="adam",
    learning_rate=1e-4,
    weight_decay=0.0,
    betas=(0.9, 0.99),
    warmup_steps=0,
    decay_steps=0,
    clip_norm=0.0,
    ema_decay=0.0,  # the published networks are no averages
)
RADAM = replace(ADAM, name="radam", learning_rate=1e-5, betas=(0.9, 0.999), ema_decay=0.999, ema_warms_up=False)


def mean_heun_steps(grid_points: int) -> float:
    return sum(steps * float(chance) for steps, chance in enumerate(heun_step_chances(grid_points), start=1))


def _unet(stage: str, epochs: int, batch_size: int, micro_batch: int, optimiser: OptimiserConfig) -> DicoseExperiment:
    train = TrainConfig(
        stage=stage,
        steps=epochs * SLAKH_EPOCH_CROPS // batch_size,
        batch_size=batch_size,
        micro_batch=micro_batch,
        crop=UNET_CROP,
        augment=EffectsConfig(),
        optimiser=optimiser,
        precision=Precision.BF16,
        save_every=500,
        validate_every=4000,
    )
    return DicoseExperiment(
        name=f"dicose_unet_slakh_{stage}",
        train=train,
        stems=UNET.stems,
        sample_rate_hz=UNET.sample_rate_hz,
        channels=1,
        validation=VALIDATION,
        architecture=UNET.architecture,
        network=published_unet(),
        recipe=unet_slakh(),
    )


def unet_slakh_separator() -> DicoseExperiment:
    """170 epochs, 50 crops on each of 3 GPUs."""
    return _unet("separator", 170, 150, 50, ADAM)


def unet_slakh_diffusion() -> DicoseExperiment:
    """280 epochs, 50 crops on one GPU."""
    return replace(_unet("diffusion", 280, 50, 50, ADAM), sampler=UNET.refiners["diffusion"])


def unet_slakh_consistency() -> DicoseExperiment:
    """50 epochs, 4 times 14 crops on one GPU. The paper weighs score matching by 0.7, the configuration by 1."""
    return replace(_unet("consistency", 50, 56, 14, RADAM), sampler=UNET.refiners["cd"])


def unet_slakh_control() -> DicoseExperiment:
    """`Det x2` (v1, table 1), with what the refiner and its distillation cost. (Theirs was best at 150 epochs.)"""
    diffusion, consistency = unet_slakh_diffusion(), unet_slakh_consistency()
    heun = mean_heun_steps(diffusion.recipe.noise.grid_points)
    train = replace(diffusion.train, stage="control", steps=control_steps(diffusion.train, consistency.train, heun))
    return replace(diffusion, name="dicose_unet_slakh_control", train=train, sampler=None)


def _bs_roformer(
    stage: str, epochs: int, batch_size: int, micro_batch: int, optimiser: OptimiserConfig
) -> DicoseExperiment:
    train = TrainConfig(
        stage=stage,
        steps=epochs * MUSDB_EPOCH_STEPS,
        batch_size=batch_size,
        micro_batch=micro_batch,
        crop=BS_ROFORMER_CROP,
        augment=bs_roformer_effects(),
        optimiser=optimiser,
        precision=Precision.BF16,  # theirs was fp16, which wants a loss scale
        checkpoint_activations=True,
        save_every=500,
        validate_every=MUSDB_EPOCH_STEPS,
    )
    return DicoseExperiment(
        name=f"dicose_bsrf_musdb_{stage}",
        train=train,
        stems=BS_ROFORMER.stems,
        validation=VALIDATION,
        architecture=BS_ROFORMER.architecture,
        network=published_bs_roformer(),
        recipe=bs_roformer_musdb(),
        starts_from_separator=True,
    )


def bsrf_musdb_separator() -> DicoseExperiment:
    """The authors took a public checkpoint (`--separator` of the later stages takes its folder) or this, batch 8.

    Their configuration names Prodigy, which finds its own step size and is not in PyTorch; here it is Adam as in the
    later stages, for as long as they take the refiner.
    """
    return _bs_roformer("separator", 80, 8, 8, ADAM)


def bsrf_musdb_diffusion() -> DicoseExperiment:
    """80 epochs of 4000 steps, 6 crops on each of 3 GPUs, from the separator's weights."""
    return replace(_bs_roformer("diffusion", 80, 18, 6, ADAM), sampler=BS_ROFORMER.refiners["diffusion"])


def bsrf_musdb_consistency() -> DicoseExperiment:
    """3 crops on each of 3 GPUs, gradients clipped at 10. How long is open in both papers: half of their limit."""
    optimiser = replace(RADAM, clip_norm=10.0)
    return replace(_bs_roformer("consistency", 75, 9, 3, optimiser), sampler=BS_ROFORMER.refiners["cd"])


def bsrf_musdb_control() -> DicoseExperiment:
    """`Det x2`, from the separator's weights, with what the refiner and its distillation cost."""
    diffusion, consistency = bsrf_musdb_diffusion(), bsrf_musdb_consistency()
    heun = mean_heun_steps(diffusion.recipe.noise.grid_points)
    train = replace(diffusion.train, stage="control", steps=control_steps(diffusion.train, consistency.train, heun))
    return replace(diffusion, name="dicose_bsrf_musdb_control", train=train, sampler=None)


EXPERIMENTS: dict[str, Callable[[], DicoseExperiment]] = {
    "dicose_unet_slakh_separator": unet_slakh_separator,
    "dicose_unet_slakh_diffusion": unet_slakh_diffusion,
    "dicose_unet_slakh_consistency": unet_slakh_consistency,
    "dicose_unet_slakh_control": unet_slakh_control,
    "dicose_bsrf_musdb_separator": bsrf_musdb_separator,
    "dicose_bsrf_musdb_diffusion": bsrf_musdb_diffusion,
    "dicose_bsrf_musdb_consistency": bsrf_musdb_consistency,
    "dicose_bsrf_musdb_control": bsrf_musdb_control,
}
