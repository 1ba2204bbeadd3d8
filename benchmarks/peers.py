"""Other people's separators, to be timed beside ours in the same run. `make bench` puts them into build/peers.

They are installed without their dependencies, of which some have no build for the PyTorch that we use; what their
networks import but do not need is stood in for.
"""

import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import torch
from torch.nn.functional import pad

from pyserver.engine.messages import Audio

FOLDER = Path(__file__).parent.parent / "build" / "peers"
NOT_NEEDED = ("omegaconf", "dora", "dora.log", "diffq")


def ht_demucs() -> Callable[[Audio], None] | None:
    """HT-Demucs, its default architecture with random weights, as a function of a stereo song (C, N) at 44.1 kHz.

    Its segments of 7.8 s one after the other without the overlap that it has by default, which would cost a third more.
    None where it is not installed.
    """
    if not (FOLDER / "demucs").is_dir():
        return None
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    # its own __init__ imports torchaudio; only its filters are wanted
    unmix = types.ModuleType("openunmix")
    found = importlib.util.find_spec("openunmix")
    unmix.__path__ = list(found.submodule_search_locations or []) if found else []
    sys.modules["openunmix"] = unmix
    for name in NOT_NEEDED:
        sys.modules.setdefault(name, MagicMock())
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(0)
    network = HTDemucs(["drums", "bass", "other", "vocals"]).eval()
    segment = int(7.8 * 44100)

    def separate(song_CN: Audio) -> None:
        with torch.inference_mode():
            for part in torch.split(torch.from_numpy(song_CN)[None], segment, dim=-1):
                network(pad(part, (0, segment - part.shape[-1])))

    return separate
