"""Activations in 16 bits: how close they come back, whatever their size."""

import pytest
import torch
from golden_tree import BS_ROFORMER

from pyserver.models.bs_roformer import BSRoformerConfig, BSRoformerSeparator
from pyserver.models.packing import pack, packed_width, unpacked


def there_and_back(x: torch.Tensor) -> torch.Tensor:
    packed = torch.empty(*x.shape[:-1], packed_width(x.shape[-1]), dtype=torch.int16)
    pack(x, packed)
    return unpacked(packed, x.shape[-1])


@pytest.mark.parametrize("dim", [12, 64, 384])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_numbers_of_any_size_come_back_within_a_65534th_of_their_groups_largest(dim: int, size: float) -> None:
    x = size * torch.randn(2, 7, dim, generator=torch.Generator().manual_seed(0))
    assert (there_and_back(x) - x).abs().max() <= x.abs().max() / 65000


def test_a_large_number_costs_accuracy_in_its_own_group_alone() -> None:
    x = torch.randn(1, 384, generator=torch.Generator().manual_seed(0))
    x[0, 5] = 1e6
    error = (there_and_back(x) - x).abs()
    assert error[:, :64].max() > 0.1
    assert error[:, 64:].max() < 1e-4


def test_silence_stays_silent_and_what_is_not_finite_stays_so() -> None:
    assert not there_and_back(torch.zeros(3, 64)).any()
    x = torch.zeros(2, 128)
    x[0, 3], x[1, 70] = torch.nan, torch.inf
    found = there_and_back(x)
    assert not found[0, 3].isfinite()
    assert not found[1, 70].isfinite()
    assert found[0, 64:].isfinite().all()


@torch.no_grad()
def test_a_separator_keeps_in_16_bits_what_its_core_makes() -> None:
    torch.manual_seed(0)
    config = BSRoformerConfig.from_published(BS_ROFORMER)
    separator = BSRoformerSeparator(config).eval()
    mixture = 0.1 * torch.randn(2, 1, 1001)
    _, features = separator(mixture)
    _, made = separator.core(features[0])
    assert len(features) == config.injected_features
    for kept, exact in zip(features[1:], made[:-1], strict=True):
        assert kept.dtype == torch.int16
        assert torch.allclose(unpacked(kept, config.dim), exact, atol=3e-5 * float(exact.abs().max()))
