"""Effects on stems as waveforms, on the training device: the pipeline with which BS-RoFormer was trained on MUSDB18.

Every stem is changed by itself and the mixture is summed afterwards, so the sum stays exact, whatever an effect does.
Axes: B batch, S stems, C channels, L samples, F bins, T frames.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyserver.models.stft import StftSpec, istft, stft

Range = tuple[float, float]

EQ_BANDS_HZ: tuple[Range, ...] = (
    (42, 95),
    (91, 204),
    (196, 441),
    (421, 948),
    (909, 2045),
    (1957, 4404),
    (4216, 9486),
)
EQ_Q: Range = (0.5, 1.0)
EQ_TAIL = 8192
VOCODER = StftSpec(2048, 512, 2048)


@dataclass(frozen=True, slots=True, kw_only=True)
class StemEffects:
    """What may happen to a stem, each with `EffectsConfig.chance`; a range that is only its neutral value: never."""

    pitch_semitones: Range = (0.0, 0.0)
    eq_db: Range = (0.0, 0.0)
    tanh: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
    stretch: Range = (1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectsConfig:
    """`stems` in the order of the batch's. The default changes nothing."""

    stems: tuple[StemEffects, ...] = ()
    chance: float = 0.0
    loudness: Range = (1.0, 1.0)
    swap_chance: float = 0.0
    reverse_chance: float = 0.0
    polarity_chance: float = 0.0
    sample_rate_hz: int = 44100


def bs_roformer_effects() -> EffectsConfig:
    """For drums, bass, other, vocals, as published; mixup is part of the crop (`CropConfig.mixup`).

    DiCoSe v2, section 4.1, names them; the figures and the reversal are those of the published configurations.
    """
    wide = StemEffects(pitch_semitones=(-5, 5), eq_db=(-9, 9), tanh=(0.1, 0.7))
    return EffectsConfig(
        stems=(
            StemEffects(pitch_semitones=(-5, 5), eq_db=(-9, 9), tanh=(0.1, 0.6)),
            StemEffects(pitch_semitones=(-2, 2), eq_db=(-3, 6), tanh=(0.1, 0.5)),
            StemEffects(pitch_semitones=(-4, 4), noise=(0.001, 0.015), stretch=(0.8, 1.25)),
            wide,
        ),
        chance=0.1,
        loudness=(0.5, 1.5),
        swap_chance=0.5,
        reverse_chance=0.1,
        polarity_chance=0.5,
    )


def apply_effects(stems_BSCL: Tensor, config: EffectsConfig, generator: torch.Generator) -> Tensor:
    """The stems changed, each by itself; the same tensor if there is nothing to change."""
    if config == EffectsConfig(sample_rate_hz=config.sample_rate_hz):
        return stems_BSCL
    batch, stems = stems_BSCL.shape[:2]

    def chance(probability: float) -> Tensor:
        drawn = torch.rand((batch, stems, 1, 1), generator=generator) < probability
        return drawn.to(stems_BSCL.device)

    out = torch.where(chance(config.swap_chance), stems_BSCL.flip(2), stems_BSCL)
    out = torch.where(chance(config.reverse_chance), out.flip(3), out)
    out = torch.where(chance(config.polarity_chance), -out, out)
    drawn = [
        _effects_of(out[item, stem], config.stems[stem], config, generator) if config.stems else out[item, stem]
        for item in range(batch)
        for stem in range(stems)
    ]
    low, high = config.loudness
    gain = low + (high - low) * torch.rand((batch, stems, 1, 1), generator=generator)
    return torch.stack(drawn).reshape(stems_BSCL.shape) * gain.to(stems_BSCL.device)


def _effects_of(x_CL: Tensor, effects: StemEffects, config: EffectsConfig, generator: torch.Generator) -> Tensor:
    rate = config.sample_rate_hz
    chain: tuple[tuple[Range, float, Callable[[Tensor, float], Tensor]], ...] = (
        (effects.pitch_semitones, 0.0, pitch_shifted),
        (effects.tanh, 0.0, tanh_distorted),
        (effects.noise, 0.0, lambda x, level: x + level * torch.randn(x.shape, generator=generator).to(x.device)),
        (effects.stretch, 1.0, _stretched_to_length),
    )
    if torch.rand((), generator=generator) < config.chance and effects.eq_db != (0.0, 0.0):
        x_CL = equalised(x_CL, effects.eq_db, rate, generator)
    for (low, high), neutral, effect in chain:
        happens, where = torch.rand(2, generator=generator).tolist()
        if happens < config.chance and (low, high) != (neutral, neutral):
            x_CL = effect(x_CL, low + (high - low) * where)
    return x_CL


def pitch_shifted(x_CL: Tensor, semitones: float) -> Tensor:
    """Stretched in time by a phase vocoder, then resampled to the old length."""
    length = x_CL.shape[-1]
    longer = stretched(x_CL, 2 ** (-semitones / 12))
    shifted: Tensor = torch.fft.irfft(torch.fft.rfft(longer), n=length) * (length / longer.shape[-1])
    return shifted


def stretched(x_CL: Tensor, rate: float) -> Tensor:
    """Played `rate` times as fast at the same pitch: a phase vocoder (Flanagan and Golden 1966).

    Phases are counted from the loudest frame: at the edges, and where little sounds, neighbouring bins do not agree.
    """
    x_CFT = stft(x_CL, VOCODER)
    bins, frames = x_CFT.shape[-2:]
    at = torch.arange(0, frames, rate, device=x_CL.device, dtype=torch.float64)
    low = at.long().clamp_max(frames - 1)
    high = (low + 1).clamp_max(frames - 1)
    magnitude = torch.lerp(x_CFT[..., low].abs(), x_CFT[..., high].abs(), (at - low).to(x_CL))
    expected = 2 * math.pi * VOCODER.hop_length / VOCODER.n_fft * torch.arange(bins, device=x_CL.device)[:, None]
    advance = x_CFT[..., high].angle() - x_CFT[..., low].angle() - expected
    advance = expected + advance - 2 * math.pi * (advance / (2 * math.pi)).round()
    travelled = torch.nn.functional.pad(advance[..., :-1].double().cumsum(-1), (1, 0))
    inner = min(4, (len(at) - 1) // 2)
    anchor = inner + magnitude[..., inner : len(at) - inner].square().sum((0, 1)).argmax()
    phase = x_CFT[..., low[anchor], None].angle() + travelled - travelled[..., anchor, None]
    return istft(torch.polar(magnitude, phase.to(magnitude)), VOCODER, round(x_CL.shape[-1] / rate))


def _stretched_to_length(x_CL: Tensor, rate: float) -> Tensor:
    out = stretched(x_CL, rate)[..., : x_CL.shape[-1]]
    return torch.nn.functional.pad(out, (0, x_CL.shape[-1] - out.shape[-1]))


def tanh_distorted(x_CL: Tensor, amount: float) -> Tensor:
    """Soft clipping of the loudest 99·`amount` percent of the samples, at the same RMS as before."""
    before = x_CL.square().mean().sqrt()
    threshold = x_CL.abs().flatten().kthvalue(max(1, round(x_CL.numel() * (1 - 0.99 * amount)))).values
    if before < 1e-9:
        return x_CL
    out = torch.tanh(0.5 / (threshold + 1e-6) * x_CL)
    louder: Tensor = out * (before / out.square().mean().sqrt())
    return louder


def equalised(x_CL: Tensor, gains_db: Range, sample_rate_hz: int, generator: torch.Generator) -> Tensor:
    """Seven bands with random gain, frequency and Q: shelves outside, bells between."""
    size = x_CL.shape[-1] + EQ_TAIL
    omega = torch.linspace(0, math.pi, size // 2 + 1, dtype=torch.float64)
    response = torch.ones(len(omega), dtype=torch.complex128)
    draws = torch.rand((len(EQ_BANDS_HZ), 3), generator=generator).tolist()
    for index, ((low, high), (where, gain, width)) in enumerate(zip(EQ_BANDS_HZ, draws, strict=True)):
        frequency = low * (high / low) ** where
        db = gains_db[0] + (gains_db[1] - gains_db[0]) * gain
        q = EQ_Q[0] + (EQ_Q[1] - EQ_Q[0]) * width
        side = -1 if index == 0 else 1 if index == len(EQ_BANDS_HZ) - 1 else 0
        response = response * biquad_response(omega, 2 * math.pi * frequency / sample_rate_hz, db, q, side)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(x_CL, size) * response.to(x_CL.device, torch.complex64), size)
    return filtered[..., : x_CL.shape[-1]]


def biquad_response(omega: Tensor, centre: float, gain_db: float, q: float, side: int) -> Tensor:
    """Response at `omega` (radians a sample) of a bell (`side` 0), a low (-1) or a high shelf (1); RBJ's cookbook."""
    a, cos, alpha = 10 ** (gain_db / 40), math.cos(centre), math.sin(centre) / (2 * q)
    if side == 0:
        above, below = (1 + alpha * a, -2 * cos, 1 - alpha * a), (1 + alpha / a, -2 * cos, 1 - alpha / a)
    else:
        # the cookbook's two shelves differ in the sign of cos alone
        cos, root = side * cos, 2 * math.sqrt(a) * alpha
        above = (
            a * ((a + 1) + (a - 1) * cos + root),
            side * -2 * a * ((a - 1) + (a + 1) * cos),
            a * ((a + 1) + (a - 1) * cos - root),
        )
        below = (
            (a + 1) - (a - 1) * cos + root,
            side * 2 * ((a - 1) - (a + 1) * cos),
            (a + 1) - (a - 1) * cos - root,
        )
    z = torch.polar(torch.ones_like(omega), -omega)
    top, bottom = (c[0] + c[1] * z + c[2] * z * z for c in (above, below))
    response: Tensor = top / bottom
    return response
