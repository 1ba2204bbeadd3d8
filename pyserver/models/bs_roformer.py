"""Band-split RoFormer (Lu et al. 2023) as a separator, and DiCoSe's refiner built on the same trunk.

The trunk and the mask heads take and give real tensors; STFT and complex products stay outside them. Parameter names
are those of the published checkpoints below `model.unet.`.

Axes: B batch, S stems, C audio channels, L samples, F bins, T frames, V real and imaginary part, K bands, D width,
M mapping features, Q whatever serves as the batch of a transformer.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from pyserver.models.cores import is_replaced
from pyserver.models.packing import pack, packed_width, unpacked
from pyserver.models.stft import StftSpec, istft, stft
from pyserver.models.transformer import TOKENS_AT_ONCE, RMSNorm, Rotary, Transformer, in_parts, pairs

_MAPPING_MULTIPLIER = 4
_FRAMES_AT_ONCE = 32
_ADAPTER_REACH = 2  # frames to either side, by its two convolutions over three


@dataclass(frozen=True, slots=True, kw_only=True)
class BSRoformerConfig:
    """Names as in the published configurations. `stft_adapter_hidden` is the refiner's."""

    dim: int
    depth: int
    stereo: bool
    num_stems: int
    freqs_per_bands: tuple[int, ...]
    dim_head: int
    heads: int
    stft_n_fft: int
    stft_hop_length: int
    stft_win_length: int
    mask_estimator_depth: int
    mlp_expansion_factor: int = 4
    time_transformer_depth: int = 1
    freq_transformer_depth: int = 1
    attn_dropout: float = 0.0
    ff_dropout: float = 0.0
    stft_adapter_hidden: int = 128

    def __post_init__(self) -> None:
        bins = self.stft_n_fft // 2 + 1
        if sum(self.freqs_per_bands) != bins:
            raise ValueError(f"the bands cover {sum(self.freqs_per_bands)} of {bins} bins")
        if self.dim % 2 or self.dim_head % 2:
            raise ValueError("dim and dim_head must be even")

    @property
    def channels(self) -> int:
        return 2 if self.stereo else 1

    @property
    def stft(self) -> StftSpec:
        return StftSpec(self.stft_n_fft, self.stft_hop_length, self.stft_win_length)

    @property
    def injected_features(self) -> int:
        """How many of the separator's features the refiner takes: spectrum, band split, two a layer."""
        return 2 + 2 * self.depth

    @classmethod
    def from_published(cls, raw: Mapping[str, Any]) -> "BSRoformerConfig":
        """From a published configuration, which has training settings beside those of the network.

        Variants that no published network uses are refused, not ignored.
        """
        only = {
            "linear_transformer_depth": 0,
            "skip_connection": False,
            "stft_normalized": False,
            "stft_adapter_type": "conv2d",
            "use_context_time": True,
            "use_mixture_feature_conditioning": True,
            "dim_freqs_in": raw["stft_n_fft"] // 2 + 1,
        }
        for name, value in only.items():
            if raw.get(name, value) != value:
                raise ValueError(f"{name} = {raw[name]} is not supported, only {value}")
        known = {f.name for f in fields(cls)}
        picked: dict[str, Any] = {k: tuple(v) if isinstance(v, Sequence) else v for k, v in raw.items() if k in known}
        return cls(**picked)


class BandSplit(nn.Module):
    """(B, T, F·C·V) -> (B, T, K, D)."""

    def __init__(self, config: BSRoformerConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.widths = [2 * config.channels * bins for bins in config.freqs_per_bands]
        self.to_features = nn.ModuleList(
            nn.Sequential(RMSNorm(width), nn.Linear(width, config.dim)) for width in self.widths
        )

    def forward(self, x: Tensor) -> Tensor:
        bands = zip(self.to_features, torch.split(x, self.widths, dim=-1), strict=True)
        if not in_parts(x):
            return torch.stack([to_feature(band) for to_feature, band in bands], dim=-2)
        out = x.new_empty(*x.shape[:-1], len(self.widths), self.dim)
        for place, (to_feature, band) in zip(out.unbind(dim=-2), bands, strict=True):
            place.copy_(to_feature(band))
        return out


class MaskEstimator(nn.Module):
    """(B, T, K, D) -> (B, T, F·C·V)."""

    def __init__(self, config: BSRoformerConfig) -> None:
        super().__init__()
        hidden = config.dim * config.mlp_expansion_factor
        self.to_freqs = nn.ModuleList()
        for bins in config.freqs_per_bands:
            # the gated linear unit halves the last layer's width
            widths = [config.dim, *[hidden] * (config.mask_estimator_depth - 1), 2 * config.channels * bins * 2]
            layers: list[nn.Module] = []
            for width_in, width_out in itertools.pairwise(widths):
                layers += [nn.Linear(width_in, width_out), nn.Tanh()]
            self.to_freqs.append(nn.Sequential(nn.Sequential(*layers[:-1]), nn.GLU(dim=-1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([head(band) for head, band in zip(self.to_freqs, x.unbind(dim=-2), strict=True)], dim=-1)


def pack_spectrum(x_BCFTV: Tensor) -> Tensor:
    """(B, C, F, T, V) -> (B, T, F·C·V): bin-major, then channel, then real and imaginary part."""
    return x_BCFTV.permute(0, 3, 2, 1, 4).flatten(2)


def apply_masks(spectrum_BCFT: Tensor, masks_BSTN: Tensor) -> Tensor:
    """Complex (B, S, C, F, T): the spectrum times every stem's mask (B, S, T, F·C·V), without the DC bin."""
    batch, channels, bins, frames = spectrum_BCFT.shape
    masks = masks_BSTN.reshape(batch, -1, frames, bins, channels, 2).permute(0, 1, 4, 3, 2, 5)
    masks = masks.to(spectrum_BCFT.real.dtype).contiguous()  # heads may compute in half precision, spectra do not
    masked = spectrum_BCFT[:, None] * torch.view_as_complex(masks)
    return torch.cat([torch.zeros_like(masked[..., :1, :]), masked[..., 1:, :]], dim=-2)


class _Trunk(nn.Module):
    """What separator and refiner share."""

    def __init__(self, config: BSRoformerConfig, mapping: int) -> None:
        super().__init__()
        self.config = config
        time_rotary, freq_rotary = Rotary(config.dim_head), Rotary(config.dim_head)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Transformer(config, config.time_transformer_depth, time_rotary, mapping),
                    Transformer(config, config.freq_transformer_depth, freq_rotary, mapping),
                ]
            )
            for _ in range(config.depth)
        )
        self.final_norm = RMSNorm(config.dim)
        self.band_split = BandSplit(config)
        self.mask_estimators = nn.ModuleList(MaskEstimator(config) for _ in range(config.num_stems))

    def transformers(self) -> Iterator[nn.Module]:
        """In turns over time and over bands."""
        return itertools.chain.from_iterable(pairs(self.layers))


class BSRoformerSeparator(_Trunk):
    """Mixture -> all stems, in one pass."""

    def __init__(self, config: BSRoformerConfig) -> None:
        super().__init__(config, mapping=0)

    def core(self, spectrum_BCFTV: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Masks (B, S, T, F·C·V) and the features between band split and masks, the final norm last."""
        x = self.band_split(pack_spectrum(spectrum_BCFTV))
        features = [x]
        for transformer in self.transformers():
            x = _along(transformer, x.transpose(1, 2), None)
            features.append(x)
        x_BTKD = self.final_norm(x)
        masks_BSTN = torch.stack([estimator(x_BTKD) for estimator in self.mask_estimators], dim=1)
        return masks_BSTN, [*features, x_BTKD]

    def forward(self, mixture_BCL: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Stems (B, S, C, L) and the refiner's `config.injected_features`: spectrum, band split, every transformer."""
        spectrum_BCFT = stft(mixture_BCL, self.config.stft)
        spectrum_BCFTV = torch.view_as_real(spectrum_BCFT)
        if in_parts(mixture_BCL) and not is_replaced(self, "core"):
            stems, features = self._sparingly(spectrum_BCFT, mixture_BCL.shape[-1])
        else:
            masks_BSTN, (*features, _) = self.core(spectrum_BCFTV)
            stems = istft(apply_masks(spectrum_BCFT, masks_BSTN), self.config.stft, mixture_BCL.shape[-1])
        return stems, [spectrum_BCFTV, *features]

    def _sparingly(self, spectrum_BCFT: Tensor, length: int) -> tuple[Tensor, list[Tensor]]:
        """Stems, one after the other, and packed features: in float32 those of 11 s take more than all weights."""
        config, (batch, _, _, frames) = self.config, spectrum_BCFT.shape
        tokens = batch * frames * len(config.freqs_per_bands)
        # one block, and before all else: blocks made on the way would leave gaps in the heap that nothing fits in
        room = torch.empty(config.injected_features - 1, tokens, packed_width(config.dim), dtype=torch.int16)
        x = self.band_split(pack_spectrum(torch.view_as_real(spectrum_BCFT)))
        features = [_packed(x, room[0])]
        for transformer, place in zip(self.transformers(), room[1:], strict=True):
            x = _along_in_place(transformer, x.transpose(1, 2), None)
            features.append(_packed(x, place))
        x_BTKD = _normed(x, self.final_norm)
        stems = [
            istft(apply_masks(spectrum_BCFT, estimator(x_BTKD)[:, None]), config.stft, length)
            for estimator in self.mask_estimators
        ]
        return torch.cat(stems, dim=1), features


class BSRoformerRefiner(_Trunk):
    """The raw network F of the refiner: one stem a pass, conditioned on noise level and stem."""

    def __init__(self, config: BSRoformerConfig) -> None:
        dim, mapping = config.dim, config.dim * _MAPPING_MULTIPLIER
        super().__init__(config, mapping)
        self.to_time = nn.Sequential(nn.Sequential(_Sinusoids(dim), nn.Linear(dim, mapping)), nn.GELU())
        self.to_mapping = nn.Sequential(nn.Linear(mapping, mapping), nn.GELU(), nn.Linear(mapping, mapping), nn.GELU())
        self.stem_embedding = nn.Embedding(config.num_stems, mapping)
        self.stft_feature_adapter = _spectrum_adapter(2 * config.channels, config.stft_adapter_hidden)
        self.band_split_feature_adapter = _token_adapter(dim)
        self.transformer_feature_adapters = nn.ModuleList(_token_adapter(dim) for _ in range(2 * config.depth))

    def mapping(self, c_noise_B: Tensor, stem: int) -> Tensor:
        """What drives every scale and shift, (B, M)."""
        return self.to_mapping(self.to_time(c_noise_B) + self.stem_embedding.weight[stem])  # type: ignore[no-any-return]

    def adapt_spectrum(self, spectrum_BCFTV: Tensor) -> Tensor:
        """The separator's spectrum as it is added to the noisy stem's; same shape."""
        channels = spectrum_BCFTV.shape[1]
        planes = spectrum_BCFTV.permute(0, 1, 4, 2, 3).flatten(1, 2)
        adapted = _over_frames(self.stft_feature_adapter, planes)
        return adapted.reshape(adapted.shape[0], channels, 2, *adapted.shape[2:]).permute(0, 1, 3, 4, 2)

    def tokens(self, spectrum_BCFTV: Tensor, mapping_BM: Tensor, features: Sequence[Tensor] | None) -> Tensor:
        """What the mask heads take, (B, T, K, D); `features` from the band split on."""
        x = self.band_split(pack_spectrum(spectrum_BCFTV))
        if features is not None:
            x = _with_adapted(x, self.band_split_feature_adapter, features[0])
        for i, transformer in enumerate(self.transformers()):
            x = _along_in_place(transformer, x.transpose(1, 2), mapping_BM)
            if features is not None:
                x = _with_adapted(x, self.transformer_feature_adapters[i], features[1 + i])
        return _normed(x, self.final_norm)

    def core(self, spectrum_BCFTV: Tensor, mapping_BM: Tensor, stem: int, features: Sequence[Tensor] | None) -> Tensor:
        """Mask (B, T, F·C·V) of stem number `stem`."""
        after_spectrum = None if features is None else features[1:]
        return self.mask_estimators[stem](self.tokens(spectrum_BCFTV, mapping_BM, after_spectrum))  # type: ignore[no-any-return]

    def forward(self, x_BCL: Tensor, c_noise_B: Tensor, stem: int, features: Sequence[Tensor] | None) -> Tensor:
        """F for one stem, (B, C, L); `features` from the separator's pass over the same mixtures."""
        spectrum_BCFTV = torch.view_as_real(stft(x_BCL, self.config.stft))
        if features is not None:
            spectrum_BCFTV = spectrum_BCFTV + self.adapt_spectrum(features[0])
        mask_BTN = self.core(spectrum_BCFTV, self.mapping(c_noise_B, stem), stem, features)
        masked = apply_masks(torch.view_as_complex(spectrum_BCFTV.contiguous()), mask_BTN[:, None])
        return istft(masked[:, 0], self.config.stft, x_BCL.shape[-1])


class _Sinusoids(nn.Module):
    """(B) -> (B, dim): sines, then cosines, of fixed frequencies."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pairs = dim // 2

    def forward(self, value_B: Tensor) -> Tensor:
        index = torch.arange(self.pairs, device=value_B.device, dtype=value_B.dtype)
        phase = value_B[:, None] * torch.exp(index * (-math.log(10000) / (self.pairs - 1)))
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


def _spectrum_adapter(planes: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Identity(),  # keeps the published numbering
        nn.Conv2d(planes, hidden, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 1),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 1),
        nn.GELU(),
        nn.Conv2d(hidden, planes, 3, padding=1),
    )


def _token_adapter(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))


def _over_frames(adapter: nn.Module, planes_BPFT: Tensor) -> Tensor:
    """The spectrum adapter, on a CPU some frames at a time: its hidden planes are as large as many spectra."""
    frames = planes_BPFT.shape[-1]
    if not in_parts(planes_BPFT):
        return adapter(planes_BPFT)  # type: ignore[no-any-return]
    parts = []
    for start in range(0, frames, _FRAMES_AT_ONCE):
        stop = min(start + _FRAMES_AT_ONCE, frames)
        first, last = max(0, start - _ADAPTER_REACH), min(frames, stop + _ADAPTER_REACH)
        parts.append(adapter(planes_BPFT[..., first:last])[..., start - first : stop - first])
    return torch.cat(parts, dim=-1)


def _with_adapted(x: Tensor, adapter: nn.Module, feature: Tensor) -> Tensor:
    """x plus the adapted feature, of one shape (..., D) or packed; in the place of x where work is done in parts."""
    if not in_parts(x):
        return x + adapter(unpacked(feature, x.shape[-1]))  # type: ignore[no-any-return]
    for own, given in _some_rows(x, feature):
        own += adapter(unpacked(given, x.shape[-1]))
    return x


def _normed(x: Tensor, norm: nn.Module) -> Tensor:
    """In the place of x where work is done in parts."""
    if not in_parts(x):
        return norm(x)  # type: ignore[no-any-return]
    for (part,) in _some_rows(x):
        part.copy_(norm(part))
    return x


def _packed(x: Tensor, room: Tensor) -> Tensor:
    """In the room for as many tokens."""
    out = room.view(*x.shape[:-1], -1)
    for part, place in _some_rows(x, out):
        pack(part, place)
    return out


def _some_rows(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of the same places in all of them, which have four axes and differ in the last at most."""
    rows = max(1, TOKENS_AT_ONCE // tensors[0].shape[2])
    for items in zip(*tensors, strict=True):
        yield from zip(*(torch.split(item, rows) for item in items), strict=True)


def _along(transformer: nn.Module, x: Tensor, mapping_BM: Tensor | None) -> Tensor:
    """Runs a transformer along the last but one axis of a four-axis tensor."""
    out: Tensor = transformer(x.flatten(0, 1), mapping_BM)
    return out.reshape(x.shape)


def _along_in_place(transformer: nn.Module, x: Tensor, mapping_BM: Tensor | None) -> Tensor:
    """The same, in the place of x where work is done in parts."""
    if not in_parts(x):
        return _along(transformer, x, mapping_BM)
    assert isinstance(transformer, Transformer)
    for item, own in enumerate(x):
        transformer.overwrite(own, None if mapping_BM is None else mapping_BM[item : item + 1])
    return x
