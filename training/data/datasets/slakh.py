"""Slakh2100: orig, split2 and redux, which differ only in which song lies in which split's folder, or in `omitted`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from training.data.datasets.errors import BrokenSong
from training.data.datasets.song import Layout, Source

METADATA = "metadata.yaml"
# libyaml where PyYAML was built with it: a whole Slakh2100 is listed in seconds, not minutes
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def class_of(program: int, is_drum: bool) -> str:
    """General-MIDI programs, counted from 0."""
    if is_drum:
        return "drums"
    if 0 <= program <= 7:
        return "piano"
    if 24 <= program <= 31:
        return "guitar"
    return "bass" if 32 <= program <= 39 else "other"


def sources(song: Path) -> tuple[Source, ...]:
    stems = _metadata(song / METADATA)
    found = []
    for name, stem in stems.items():
        if not isinstance(stem, Mapping) or not {"audio_rendered", "is_drum", "program_num"} <= stem.keys():
            expected = f"audio_rendered, is_drum and program_num of {name}"
            raise BrokenSong(song, song / METADATA, expected, f"it has {stem!r}")
        if not stem["audio_rendered"]:
            continue
        # converted copies of the data set have WAV
        files = [song / "stems" / f"{name}{suffix}" for suffix in (".flac", ".wav")]
        there = [path for path in files if path.is_file()]
        if not there:
            expected = f"stems/{files[0].name}, which {METADATA} says was rendered,"
            raise BrokenSong(song, song / "stems", expected, "it is not there")
        found.append(Source(there[0], class_of(int(stem["program_num"]), bool(stem["is_drum"]))))
    return tuple(found)


def _metadata(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.load(path.read_text(), Loader=_LOADER)
    except FileNotFoundError as error:
        raise BrokenSong(path.parent, path, "the song's stems", "there is no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BrokenSong(path.parent, path, "YAML", str(error).replace("\n", " ")) from error
    stems = content.get("stems") if isinstance(content, Mapping) else None
    if not isinstance(stems, Mapping):
        raise BrokenSong(path.parent, path, "an entry `stems`", "there is none")
    return stems


SLAKH = Layout(
    name="Slakh2100",
    shape="{train,validation,test}/TrackNNNNN/metadata.yaml and stems/SNN.flac",
    apart=frozenset({"bass", "drums", "guitar", "piano", "other"}),
    marks=lambda path: (path / METADATA).is_file(),
    holds=lambda path: (path / METADATA).is_file() or (path / "stems").is_dir(),
    sources=sources,
)
