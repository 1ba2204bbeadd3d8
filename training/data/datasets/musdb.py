"""MUSDB18-HQ (a folder a song) and MUSDB18 (an MP4 a song, five AAC streams)."""

from pathlib import Path

from training.data.datasets.container import audio_streams
from training.data.datasets.errors import BrokenSong
from training.data.datasets.song import Layout, Source

STREAMS = ("mixture", "drums", "bass", "other", "vocals")
SUFFIX = ".stem.mp4"
# The validation set of the `musdb` package, taken out of the training songs.
VALIDATION = frozenset(
    {
        "Actions - One Minute Smile",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Johnny Lokke - Promises & Lies",
        "Patrick Talbot - A Reason To Leave",
        "Triviul - Angelsaint",
        "Alexander Ross - Goodbye Bolero",
        "Fergessen - Nos Palpitants",
        "Leaf - Summerghost",
        "Skelpolu - Human Mistakes",
        "Young Griffo - Pennies",
        "ANiMAL - Rockshow",
        "James May - On The Line",
        "Meaxic - Take A Step",
        "Traffic Experiment - Sirens",
    }
)


def _split(folder_split: str, title: str) -> str:
    return "val" if folder_split == "train" and title in VALIDATION else folder_split


def _wavs(song: Path) -> tuple[Source, ...]:
    for stem in STREAMS[1:]:
        if not (song / f"{stem}.wav").is_file():
            raise BrokenSong(song, song / f"{stem}.wav", "the song's stem", "there is no such file")
    return tuple(Source(song / f"{stem}.wav", stem) for stem in STREAMS[1:])


def _streams(song: Path) -> tuple[Source, ...]:
    count = len(audio_streams(song))
    if count != len(STREAMS):
        expected = f"five audio streams ({', '.join(STREAMS)})"
        raise BrokenSong(song.parent, song, expected, f"there are {count}")
    return tuple(Source(song, stem, STREAMS.index(stem)) for stem in STREAMS[1:])


MUSDB18_HQ = Layout(
    name="MUSDB18-HQ",
    shape="{train,test}/ARTIST - TITLE/{mixture,drums,bass,other,vocals}.wav",
    apart=frozenset(STREAMS[1:]),
    marks=lambda path: all((path / f"{stem}.wav").is_file() for stem in STREAMS),
    holds=lambda path: any((path / f"{stem}.wav").is_file() for stem in STREAMS),
    sources=_wavs,
    split=_split,
)
MUSDB18 = Layout(
    name="MUSDB18",
    shape=f"{{train,test}}/ARTIST - TITLE{SUFFIX}",
    apart=frozenset(STREAMS[1:]),
    marks=lambda path: path.name.endswith(SUFFIX),
    holds=lambda path: path.name.endswith(SUFFIX),
    sources=_streams,
    title=lambda path: path.name.removesuffix(SUFFIX),
    split=_split,
)
