"""Fréchet distance between two sets of embeddings, each taken for a Gaussian: pure functions, float64.

Axes: N clips, D dimensions of the embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyserver.errors import StemlineError

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class TooFewClips(StemlineError):
    """The covariance of so few embeddings has no full rank: a distance would say more of their number than of them."""

    reason = "TOO_FEW_CLIPS"

    def __init__(self, clips: int, dimensions: int) -> None:
        super().__init__(
            f"{clips} clips are too few for a covariance of {dimensions} dimensions: {dimensions + 1} are the least",
            clips=clips,
            dimensions=dimensions,
        )


@dataclass(frozen=True, slots=True)
class Gaussian:
    """`mean_D` and `covariance_DD`, in the unit of the embedding and its square."""

    mean_D: Float64
    covariance_DD: Float64

    def of(self, dimensions: slice) -> "Gaussian":
        """The marginal of some dimensions."""
        return Gaussian(self.mean_D[dimensions], self.covariance_DD[dimensions, dimensions])


def gaussian(embeddings_ND: Float64) -> Gaussian:
    """As `moments`. Raises TooFewClips where N is not above D."""
    clips, dimensions = embeddings_ND.shape
    if clips <= dimensions:
        raise TooFewClips(clips, dimensions)
    return moments(embeddings_ND)


def moments(embeddings_ND: Float64) -> Gaussian:
    """Mean and unbiased covariance, of two clips at least. Raises ValueError for what is not finite."""
    if not np.isfinite(embeddings_ND).all():
        raise ValueError("an embedding is not finite")
    mean_D = embeddings_ND.mean(0, dtype=np.float64)
    apart_ND = embeddings_ND - mean_D
    return Gaussian(mean_D, apart_ND.T @ apart_ND / (len(embeddings_ND) - 1))


def root(psd_DD: Float64) -> Float64:
    """Symmetric square root of a positive semi-definite matrix, by its eigenvalues; what rounding puts below 0 is 0."""
    values_D, vectors_DD = np.linalg.eigh(_symmetric(psd_DD))
    found: Float64 = (vectors_DD * np.sqrt(values_D.clip(min=0))) @ vectors_DD.T
    return found


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mu_a - mu_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), with A and B the covariances.

    Dowson & Landau 1982, equation 4: the square of the 2-Wasserstein distance of two Gaussians, and what "Fréchet audio
    distance" (Kilgour et al. 2019, section 2.2) reports of embeddings. Kilgour's (AB)^1/2 has the same trace as the
    root here, which is of a symmetric matrix. Biased upwards, the more the fewer the clips: compare sets of one size.
    """
    root_a = root(a.covariance_DD)
    cross = np.linalg.eigvalsh(_symmetric(root_a @ b.covariance_DD @ root_a)).clip(min=0)
    spread = float(np.trace(a.covariance_DD) + np.trace(b.covariance_DD) - 2 * np.sqrt(cross).sum())
    return float(np.square(a.mean_D - b.mean_D).sum()) + max(spread, 0.0)


def _symmetric(matrix_DD: Float64) -> Float64:
    return (matrix_DD + matrix_DD.T) / 2


def bootstrap_spread(
    embeddings_ND: Float64, songs_N: Ints, measure: Callable[[Float64], float], rng: np.random.Generator, draws: int
) -> float:
    """Standard deviation of `measure` over sets of as many songs, drawn with replacement (Efron 1979).

    Songs are drawn, not clips, as those of one song are alike. Its mean over draws is no estimate of the distance:
    what is drawn twice makes a set look narrower than it is, so only the spread is given.
    """
    clips = [np.flatnonzero(songs_N == song) for song in np.unique(songs_N)]
    found = []
    for _ in range(draws):
        chosen = rng.integers(0, len(clips), len(clips))
        found.append(measure(embeddings_ND[np.concatenate([clips[song] for song in chosen])]))
    return float(np.std(found, ddof=1))
