"""Fréchet's distance against what is known in closed form, and against SciPy's matrix root."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from training.frechet import Gaussian, TooFewClips, bootstrap_spread, frechet_distance, gaussian, moments, root


def random_gaussian(seed: int, dimensions: int = 12, rank: int | None = None) -> Gaussian:
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((dimensions, rank or 2 * dimensions))
    return Gaussian(rng.standard_normal(dimensions), factor @ factor.T / factor.shape[1])


def test_diagonal_covariances_give_the_distance_of_means_and_of_deviations() -> None:
    rng = np.random.default_rng(0)
    means, deviations = rng.standard_normal((2, 9)), rng.uniform(0, 3, (2, 9))
    a, b = (Gaussian(mean, np.diag(deviation**2)) for mean, deviation in zip(means, deviations, strict=True))
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rank", [None, 5])
def test_rotating_both_changes_nothing_and_neither_does_exchanging_them(rank: int | None) -> None:
    a, b = random_gaussian(1), random_gaussian(2, rank=rank)
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((12, 12)))[0]
    turned = [Gaussian(turn @ each.mean_D, turn @ each.covariance_DD @ turn.T) for each in (a, b)]
    assert frechet_distance(*turned) == pytest.approx(frechet_distance(a, b), rel=1e-7)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_scipys_root_of_the_product_gives_the_same(seed: int) -> None:
    """Kilgour et al. 2019: tr(A + B - 2 (AB)^1/2)."""
    a, b = random_gaussian(seed), random_gaussian(seed + 10)
    cross = np.trace(sqrtm(a.covariance_DD @ b.covariance_DD)).real
    spread = np.trace(a.covariance_DD + b.covariance_DD) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(np.square(a.mean_D - b.mean_D).sum() + spread, rel=1e-9)


def test_a_root_squared_is_what_it_was_of_also_without_full_rank() -> None:
    for rank in (None, 5):
        covariance = random_gaussian(4, rank=rank).covariance_DD
        assert np.allclose(root(covariance) @ root(covariance), covariance, atol=1e-12)
    assert np.array_equal(root(np.zeros((3, 3))), np.zeros((3, 3)))


def test_a_set_has_no_distance_to_itself_and_a_shifted_one_that_of_the_shift() -> None:
    set_ND = np.random.default_rng(5).standard_normal((40, 8)) * np.arange(1, 9)
    assert frechet_distance(gaussian(set_ND), gaussian(set_ND[::-1].copy())) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(gaussian(set_ND), gaussian(set_ND + 0.5)) == pytest.approx(8 * 0.25, rel=1e-9)


def test_a_gaussian_is_what_numpy_says_and_its_marginal_that_of_the_columns() -> None:
    set_ND = np.random.default_rng(6).standard_normal((30, 6))
    found = gaussian(set_ND)
    assert np.allclose(found.covariance_DD, np.cov(set_ND.T), atol=1e-12)
    part, direct = found.of(slice(2, 5)), gaussian(set_ND[:, 2:5])
    assert np.allclose(part.mean_D, direct.mean_D)
    assert np.allclose(part.covariance_DD, direct.covariance_DD)


def test_fewer_clips_than_a_covariance_needs_are_refused_and_so_is_what_is_not_finite() -> None:
    set_ND = np.random.default_rng(7).standard_normal((9, 8))
    gaussian(set_ND)
    with pytest.raises(TooFewClips, match="8 clips are too few for a covariance of 8 dimensions: 9 are the least"):
        gaussian(set_ND[:8])
    set_ND[3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        gaussian(set_ND)


def test_the_spread_is_that_of_songs_not_of_their_clips() -> None:
    """Of the mean of independent songs it is sigma / sqrt(songs), however many clips each has."""
    songs = np.random.default_rng(8).standard_normal((100, 1))
    clips_ND, number_N = songs.repeat(7, axis=0), np.arange(100).repeat(7)

    def measure(chosen_ND: np.ndarray) -> float:
        return float(moments(chosen_ND).mean_D[0])

    found = bootstrap_spread(clips_ND, number_N, measure, np.random.default_rng(0), 400)
    assert found == pytest.approx(songs.std() / 10, rel=0.15)
    assert found == bootstrap_spread(clips_ND, number_N, measure, np.random.default_rng(0), 400)
