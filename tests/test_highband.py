"""What a model cannot hear is shared between its stems: all of it, also where the sound ends."""

import numpy as np
import numpy.typing as npt

from pyserver.audio.highband import FRAME, high_shares, share_high_band

Audio = npt.NDArray[np.float32]


def shared(stems_SCN: Audio, high_CN: Audio) -> Audio:
    return share_high_band(high_CN, high_shares(stems_SCN, stems_SCN.sum(0), 0.46), stems_SCN.shape[-1])


def stems(samples: int, sounding: slice) -> Audio:
    generator = np.random.default_rng(1)
    stems_SCN = np.zeros((3, 1, samples), np.float32)
    stems_SCN[..., sounding] = 0.1 * generator.standard_normal(stems_SCN[..., sounding].shape)
    stems_SCN *= np.array([1.0, 0.5, 0.1], np.float32)[:, None, None]
    return stems_SCN


def test_all_of_it_is_shared_up_to_a_hard_end_and_from_a_hard_beginning() -> None:
    samples = 40 * FRAME
    stems_SCN = stems(samples, slice(10 * FRAME + 37, 30 * FRAME + 411))
    high_CN = 0.01 * np.random.default_rng(2).standard_normal((1, samples)).astype(np.float32)
    assert np.abs(shared(stems_SCN, high_CN).sum(0) - high_CN).max() < 1e-7


def test_louder_stems_get_more_of_it() -> None:
    stems_SCN = stems(20 * FRAME, slice(None))
    power_S = np.square(shared(stems_SCN, np.ones((1, 20 * FRAME), np.float32))).sum((1, 2))
    assert power_S[0] > power_S[1] > power_S[2] > 0


def test_silent_stems_get_nothing() -> None:
    silent_SCN = np.zeros((3, 1, 20 * FRAME), np.float32)
    assert not shared(silent_SCN, np.ones((1, 20 * FRAME), np.float32)).any()
