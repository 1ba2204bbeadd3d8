"""The multichannel Wiener filter: its equation, stems that sum to the mixture, stems that are better than shares."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from pyserver.models.band_split import BandSplitConfig, BandSplitModel
from pyserver.models.spatial import SpatialConfig, spatial_filter

B, S, C, F, T = 2, 3, 2, 20, 15


def complex_noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def some_shares(seed: int = 1) -> Tensor:
    return torch.randn(B, S, C, F, T, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(1)


def literally(shares: Tensor, mixture: Tensor, config: SpatialConfig) -> npt.NDArray[np.complex128]:
    """The equation with matrices, a bin at a time."""
    m, x = shares.numpy().astype(np.float64), mixture.numpy().astype(np.complex128)
    out = np.zeros(m.shape, np.complex128)
    for b in range(len(m)):
        stems, power = m[b] * x[b], np.square(np.abs(x[b])).mean(0)
        v = m[b].mean(1) * power
        for _ in range(config.rounds):
            covariances = [[placed(stem, f, config) for f in range(F)] for stem in stems]
            for f, t in np.ndindex(F, T):
                total = sum(v[s, f, t] * covariances[s][f] for s in range(S))
                for s in range(S):
                    out[b, s, :, f, t] = v[s, f, t] * covariances[s][f] @ np.linalg.inv(total) @ x[b, :, f, t]
            stems = out[b].copy()
    return out


def placed(stem: npt.NDArray[np.complex128], f: int, config: SpatialConfig) -> npt.NDArray[np.complex128]:
    """R at one bin, out of the estimates around it."""
    near = np.clip(np.arange(f - config.reach, f + config.reach + 1), 0, F - 1)
    outer = sum(stem[:, g] @ stem[:, g].conj().T for g in near)
    return (2 * outer / np.trace(outer).real + config.floor * np.eye(C)) / (1 + config.floor)


@pytest.mark.parametrize(
    "config", [SpatialConfig(reach=0, floor=0.3, rounds=1), SpatialConfig(reach=3, floor=0.03, rounds=3)]
)
def test_the_filter_is_its_equation(config: SpatialConfig) -> None:
    shares, mixture = some_shares(), complex_noise(B, C, F, T)
    found = spatial_filter(shares, mixture, config).numpy()
    np.testing.assert_allclose(found, literally(shares, mixture, config), atol=1e-5)


def test_filtered_stems_sum_to_the_mixture() -> None:
    mixture = complex_noise(B, C, F, T)
    stems = spatial_filter(some_shares(), mixture, SpatialConfig())
    torch.testing.assert_close(stems.sum(1), mixture, atol=1e-5, rtol=0)


def test_equal_channels_give_the_shares_of_the_mixture() -> None:
    mono, shares = complex_noise(B, 1, F, T).expand(-1, C, -1, -1), some_shares()[:, :, :1].expand(-1, -1, C, -1, -1)
    stems = spatial_filter(shares, mono, SpatialConfig())
    torch.testing.assert_close(stems, shares * mono[:, None], atol=2e-4, rtol=0)


def test_rough_shares_of_stems_at_different_places_become_good_stems() -> None:
    places = torch.tensor([[0.95, 0.3], [0.7, 0.7], [0.2, 0.98]])
    sources = complex_noise(S, 1, F, 200) * places[:, :, None, None]
    mixture = sources.sum(0)
    true_power = sources.abs().square()
    rough = (true_power / true_power.sum(0)).sqrt().softmax(0)  # of the right tendency, no more
    by_shares = (rough * mixture - sources).abs().square().mean()
    filtered = spatial_filter(rough[None], mixture[None], SpatialConfig())[0]
    assert (filtered - sources).abs().square().mean() < 0.6 * by_shares


def test_silence_stays_silence_and_gradients_are_finite() -> None:
    logits = torch.randn(B, S, C, F, T, generator=torch.Generator().manual_seed(2)).requires_grad_()
    mixture = complex_noise(B, C, F, T)
    mixture[0] = 0
    mixture[1, :, 3] = 0
    stems = spatial_filter(logits.softmax(1), mixture, SpatialConfig())
    assert not stems[0].abs().any()
    assert not stems[1, :, :, 3].abs().any()
    stems.abs().square().sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().sum() > 0


def test_a_model_without_the_filter_gives_plain_shares() -> None:
    """As all models did before there was a filter: their cards do not name it."""
    bands = ((16, 4), (8, 8), (8, 16), (1, 1))
    sizes = {"stems": S, "n_fft": 512, "hop_length": 256, "bands": bands, "dim": 8, "dilations": (1,), "heads": 1}
    mixture, shares = complex_noise(B, C, F, T), some_shares()
    plain = BandSplitModel(BandSplitConfig.from_mapping(sizes))
    assert torch.equal(plain.stems_of(shares, mixture), shares * mixture[:, None])
    mono = BandSplitModel(BandSplitConfig.from_mapping(sizes | {"channels": 1, "spatial_rounds": 2}))
    assert torch.equal(mono.stems_of(shares[:, :, :1], mixture[:, :1]), shares[:, :, :1] * mixture[:, None, :1])
    filtered = BandSplitModel(
        BandSplitConfig.from_mapping(sizes | {"spatial_floor": 0.1, "spatial_reach": 2, "spatial_rounds": 2})
    )
    expected = spatial_filter(shares, mixture, SpatialConfig(reach=2, floor=0.1, rounds=2))
    assert torch.equal(filtered.stems_of(shares, mixture), expected)
