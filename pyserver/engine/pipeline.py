"""A window in, its stems out: rate, channels, level, separator and refiner or a prior's posterior, consistency with
the mixture, and back.

A pure function of the request: nothing is kept between windows, so they can be repeated, reordered or computed on
another engine and give the same bits; where several share a batch, the same stems but for float rounding.
Axes: G groups of channels (the batch), S stems, C channels, N samples at the client's rate, L samples at the model's.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from pyserver.audio.channels import channel_groups
from pyserver.audio.highband import high_shares, share_high_band
from pyserver.audio.resample import resample_to
from pyserver.diffusion.joint import Known
from pyserver.diffusion.noise import normal_stream
from pyserver.diffusion.samplers import (
    clamped,
    consistency_multistep,
    consistency_multistep_textbook,
    edm_stochastic,
    heun,
)
from pyserver.diffusion.scalings import consistency_scalings, edm_scalings
from pyserver.diffusion.schedules import consistency_schedule, diffusion_schedule
from pyserver.engine import prior
from pyserver.engine.errors import ModelCannot
from pyserver.engine.memory import FittingBatches
from pyserver.engine.messages import Audio, WalkRequest, WalkResult, WindowRequest, WindowResult
from pyserver.engine.transfers import to_device, to_host
from pyserver.models.card import ModelCard, RefinerSettings
from pyserver.models.interface import AnyModel, Features, GenerativeModel, JointModel, SeparationModel

SILENCE_RMS = 1e-9  # -180 dB: below every recording's last bit


@dataclass(frozen=True, slots=True)
class _Group:
    """Channels that a request has in common with no other group: an item of the batch."""

    window: int
    request: WindowRequest
    channels: tuple[int, ...]

    def noise(self, shape: tuple[int, ...]) -> Iterator[Tensor]:
        """Keyed by the first channel beside (seed, position): it does not depend on the group's company."""
        seed = self.request.settings.noise_seed + (self.channels[0] << 32)
        return normal_stream(seed, self.request.position, shape)


class Pipeline:
    """One loaded model on one device."""

    def __init__(self, model: AnyModel, card: ModelCard, device: torch.device) -> None:
        self.model, self.card, self.device = model.to(device).eval(), card, device
        self.batches = FittingBatches(card.name)

    def run(self, request: WindowRequest) -> WindowResult:
        """`stems_SCN` of the request's `keep` at the request's rate. Silence in gives silence out."""
        return self.run_together([request])[0]

    def run_together(self, requests: Sequence[WindowRequest]) -> list[WindowResult]:
        """As `run`, for windows of one shape as one batch. Each one's level and noise are its own, but how a network
        rounds may depend on the size of its batch."""
        began, first = time.perf_counter(), requests[0]
        assert {request.shape_of_pass for request in requests} == {first.shape_of_pass}, "windows of one shape"
        stems, channels = len(self.card.stems), len(first.audio_CN)
        kept = [
            np.empty((stems, channels, stop - start), np.float32)
            for start, stop, _ in (slice(*request.keep).indices(request.audio_CN.shape[1]) for request in requests)
        ]
        groups = channel_groups(channels, self.card.channels)
        for width in sorted({len(group) for group in groups}):
            members = [
                _Group(window, request, group)
                for window, request in enumerate(requests)
                for group in groups
                if len(group) == width
            ]
            for member, found in zip(members, self._separate_groups(members, first), strict=True):
                kept[member.window][:, list(member.channels)] = found[..., slice(*member.request.keep)]
        share_s = (time.perf_counter() - began) / len(requests)
        return [WindowResult(stems_SCN, share_s) for stems_SCN in kept]

    def _length(self, request: WindowRequest) -> int:
        """At the model's rate."""
        samples: int = request.audio_CN.shape[-1]
        return round(samples * self.card.sample_rate_hz / request.sample_rate_hz)

    def walk(self, request: WalkRequest) -> WalkResult:
        """Some steps towards a window of stems. Raises ModelCannot."""
        began = time.perf_counter()
        if not isinstance(self.model, JointModel):
            raise ModelCannot(self.card.name, "generate", self.card.abilities)
        length = request.sources_SL.shape[-1]
        padding = prior.padded_length(self.model, length) - length

        def tensor(audio_SL: Audio, padding: int = 0) -> Tensor:
            return pad(to_device(torch.from_numpy(np.ascontiguousarray(audio_SL)), self.device), (0, padding))[None]

        def noise(step: int) -> Iterator[Tensor]:
            shape = (1, len(self.card.stems), length + padding)
            draws = normal_stream(request.noise_seed, request.position, shape, step)
            return (to_device(draw, self.device) for draw in draws)

        known = Known(tensor(request.sources_SL, padding), tensor(request.mask_SL, padding))
        x = None if request.x_SP is None else tensor(request.x_SP)
        with torch.inference_mode():
            segment = prior.Segment(range(request.first, request.stop), request.steps, x)
            x = prior.walk(self.model, self.card, known, segment, noise)
        found = to_host(x[0])
        done = found[:, :length] if request.stop == request.steps else found
        return WalkResult(np.ascontiguousarray(done), time.perf_counter() - began)

    def _separate_groups(self, groups: Sequence[_Group], like: WindowRequest) -> Audio:
        """(G, S, C, N) for channel groups of one width, of requests that are `like` this one."""
        card, rate = self.card, like.sample_rate_hz
        mixture_GCN = np.stack([group.request.audio_CN[list(group.channels)] for group in groups])
        length = self._length(like)
        mixture_GCL = resample_to(mixture_GCN, rate, card.sample_rate_hz, length)
        level_G = np.sqrt(np.mean(np.square(mixture_GCL, dtype=np.float64), axis=(1, 2)))
        sounding = np.flatnonzero(level_G > SILENCE_RMS)
        gain = (card.reference_rms / level_G[sounding]).astype(np.float32)[:, None, None]
        loud_GCL, loud = mixture_GCL[sounding] * gain, [groups[int(index)] for index in sounding]

        def batch(part: slice) -> Audio:
            noise = _stacked([group.noise(self._shape(length)) for group in loud[part]])
            return self._separate_at_reference_level(loud_GCL[part], noise, like.settings.refiner_steps)

        def at_own_level() -> Audio:
            stems_GSCL = self.batches.compute(length, len(loud), batch)
            stems_GSCL /= gain[:, None]
            return stems_GSCL

        if len(loud) == len(groups):  # nearly always, and a copy less
            stems_GSCL = at_own_level()
        else:
            stems_GSCL = np.zeros((len(groups), len(card.stems), *mixture_GCL.shape[1:]), np.float32)
            if len(loud):
                stems_GSCL[sounding] = at_own_level()
        if card.complete:
            stems_GSCL = share_what_is_missing(stems_GSCL, mixture_GCL)
        return self._back_to_client(stems_GSCL, mixture_GCL, mixture_GCN, rate)

    def _shape(self, length: int) -> tuple[int, ...]:
        if isinstance(self.model, GenerativeModel):
            return self.model.noise_shape(length)
        samples = prior.padded_length(self.model, length) if isinstance(self.model, JointModel) else length
        return len(self.card.stems), self.card.channels, samples

    def _separate_at_reference_level(self, mixture_GCL: Audio, noise: Iterator[Tensor], steps: int) -> Audio:
        """(G, S, C, L), with C the request's channels in a group: a single one goes into all of the model's."""
        single = mixture_GCL.shape[1] < self.card.channels
        wide = np.repeat(mixture_GCL, self.card.channels, axis=1) if single else mixture_GCL
        with torch.inference_mode():
            mixture = to_device(torch.from_numpy(np.ascontiguousarray(wide)), self.device)
            stems = self._stems(mixture, (to_device(draw, self.device) for draw in noise), steps)
            found = to_host(stems)
        whole: Audio = found.mean(axis=2, keepdims=True) if single else found
        return whole

    def _stems(self, mixture_BCL: Tensor, noise: Iterator[Tensor], steps: int) -> Tensor:
        """(B, S, C, L)."""
        model, refiner = self.model, self.card.refiner
        if isinstance(model, JointModel):
            mono = (draw[:, :, 0] for draw in noise)
            return prior.separate(model, mixture_BCL[:, 0], self.card, steps, mono)[:, :, None]
        if steps and refiner is not None and isinstance(model, GenerativeModel):
            return generate(model, mixture_BCL, refiner, steps, noise)
        stems, features = model.separate(mixture_BCL)
        if steps and refiner is not None:
            stems = refine(model, stems, features, refiner, steps, noise)
        return stems

    def _back_to_client(self, stems_GSCL: Audio, mixture_GCL: Audio, mixture_GCN: Audio, rate: int) -> Audio:
        """At the client's rate, with what the model could not hear shared between the stems."""
        model_hz, num_samples = self.card.sample_rate_hz, mixture_GCN.shape[-1]
        stems_GSCN = resample_to(stems_GSCL, model_hz, rate, num_samples)
        if rate == model_hz:
            return stems_GSCN
        limit = 0.46 * min(rate, model_hz) / model_hz  # where the resampler's transition begins
        high_GCN = mixture_GCN - resample_to(mixture_GCL, model_hz, rate, num_samples)
        for stems_SCN, stems_SCL, mixture_CL, high_CN in zip(
            stems_GSCN, stems_GSCL, mixture_GCL, high_GCN, strict=True
        ):
            stems_SCN += share_high_band(high_CN, high_shares(stems_SCL, mixture_CL, limit), mixture_CL.shape[-1])
        return stems_GSCN


def _stacked(streams: Sequence[Iterator[Tensor]]) -> Iterator[Tensor]:
    """(G, ...) draws."""
    while True:
        yield torch.stack([next(stream) for stream in streams])


def generate(
    model: GenerativeModel, mixture_BCL: Tensor, settings: RefinerSettings, steps: int, noise: Iterator[Tensor]
) -> Tensor:
    """Stems (B, S, C, L) sampled from noise alone, given the mixture."""
    x_start, features = model.begin(mixture_BCL)
    return model.finish(refine(model, x_start, features, settings, steps, noise), features)


def refine(
    model: SeparationModel,
    stems_BSCL: Tensor,
    features: Features,
    settings: RefinerSettings,
    steps: int,
    noise: Iterator[Tensor],
) -> Tensor:
    """The separator's stems after `steps` steps of the sampler that the card names (DiCoSe, section 3)."""
    scalings = edm_scalings if settings.kind in ("edm", "heun") else consistency_scalings
    limit = model.output_limit

    def denoise(x: Tensor, sigma_B: Tensor) -> Tensor:
        return model.denoise(x, sigma_B, features, scalings)

    levels = settings.sigma_min, settings.sigma_max_for(steps), settings.rho
    if settings.kind == "edm":
        inner = clamped(denoise, limit) if limit is not None else denoise
        sigmas = diffusion_schedule(steps, *levels).to(stems_BSCL)
        refined = edm_stochastic(
            inner, stems_BSCL, sigmas, noise, corrections=settings.corrections, churn=settings.churn
        )
    elif settings.kind == "heun":
        inner = clamped(denoise, limit) if limit is not None else denoise
        sigmas = diffusion_schedule(steps, *levels).to(stems_BSCL)
        refined = heun(inner, stems_BSCL, sigmas, noise, churn=settings.churn)
    else:
        sample = consistency_multistep if settings.kind == "consistency" else consistency_multistep_textbook
        refined = sample(denoise, stems_BSCL, consistency_schedule(steps, *levels).to(stems_BSCL), noise)
    return refined if limit is None else refined.clamp(-limit, limit)


def share_what_is_missing(stems_GSCL: Audio, mixture_GCL: Audio) -> Audio:
    """Stems that sum to the mixture: each takes of the remainder in proportion to its power in the window.

    The variance-weighted projection of Wisdom et al. 2019 (mixture consistency); silent stems stay silent.
    """
    missing_GCL = mixture_GCL - stems_GSCL.sum(1)
    power_GS = np.square(stems_GSCL, dtype=np.float64).sum((2, 3))
    share_GS = power_GS / np.maximum(power_GS.sum(1, keepdims=True), 1e-30)
    consistent: Audio = stems_GSCL + share_GS.astype(np.float32)[:, :, None, None] * missing_GCL[:, None]
    return consistent
