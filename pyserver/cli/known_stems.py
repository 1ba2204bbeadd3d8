"""The stems that `accompany` is given: which file is which, and all of them as one input."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from stems.v1 import models_pb2

from pyserver.audio.files import BLOCK_FRAMES, AudioFile, Block
from pyserver.cli.client import UsageError
from pyserver.cli.generation import require_stem
from pyserver.errors import StemlineError
from pyserver.separation.errors import StemUnknown


class StemsDiffer(StemlineError):
    """Stems of one piece have one rate, length and channel count; these have not."""

    reason = "STEMS_DIFFER"


class KnownStems:
    """Files of one shape as one input, the channels of one stem after those of the other.

    Raises what AudioFile raises, and StemsDiffer.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = [AudioFile(path) for path in files.values()]
        first = self._files[0]
        for file in self._files[1:]:
            if _shape(file) != _shape(first):
                raise StemsDiffer(
                    f"{first.path} has {_described(first)}, {file.path} has {_described(file)}; export all stems of a "
                    "piece from the same start to the same end, at one rate",
                    path=file.path,
                )
        self.sample_rate_hz, self.num_samples = first.sample_rate_hz, first.num_samples
        self.stem_channels = first.channels

    @property
    def channels(self) -> int:
        return self.stem_channels * len(self._files)

    def blocks(self, frames: int = BLOCK_FRAMES) -> Iterator[Block]:
        """(N, stems * channels) in order. Raises as AudioFile does."""
        for blocks in zip(*(file.blocks(frames) for file in self._files), strict=True):
            yield np.concatenate(blocks, axis=1)


def named_files(model: models_pb2.Model, given: Sequence[str]) -> dict[str, Path]:
    """Each stem's file, in the order given: `drums=FILE`, or a file with one of the model's stems in its name.

    Raises StemUnknown where neither says which stem it is, UsageError for a stem that is given twice.
    """
    files: dict[str, Path] = {}
    for text in given:
        stem, path = _named(model, text)
        if stem in files:
            raise UsageError(f'stem "{stem}" is given twice: {files[stem]} and {path}')
        files[stem] = path
    return files


def _named(model: models_pb2.Model, text: str) -> tuple[str, Path]:
    stem, equals, path = text.partition("=")
    if equals and (stem in model.stems or not Path(text).exists()):
        require_stem(model, stem)
        return stem, Path(path)
    words = re.split(r"[^a-z0-9]+", Path(text).stem.lower())
    found = [stem for stem in model.stems if stem.lower() in words]
    if len(found) != 1:
        which = f"could be {' or '.join(found)}" if found else f"none of {', '.join(model.stems)} is in its name"
        raise StemUnknown(f"which stem is {text}? {which}; say it: {(found or model.stems)[0]}={text}", path=text)
    return found[0], Path(text)


def _shape(file: AudioFile) -> tuple[int, int, int]:
    return file.sample_rate_hz, file.num_samples, file.channels


def _described(file: AudioFile) -> str:
    return f"{file.num_samples} samples in {file.channels} channels at {file.sample_rate_hz} Hz"
