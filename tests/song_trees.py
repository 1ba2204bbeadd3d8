"""Small folders of songs in the layouts in which data sets are published. Axes: L samples, C channels."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

Audio = npt.NDArray[np.float32]
UUIDS = ("0a3ce6a4-5b9e-4ea6-9b4c-6bb1e9c8c0d1", "f40ffd10-4e8b-41e6-bd8a-971929ca9138")

# The fields of a published metadata.yaml, with programs of every class and a stem that was not rendered.
SLAKH_HEAD = """\
UUID: 1a81ae092884234f3264e2f45927f00a
audio_dir: stems
lmd_midi_dir: lmd_matched/O/O/H/TROOHTB128F931F9DF/1a81ae092884234f3264e2f45927f00a.mid
midi_dir: MIDI
normalization_factor: -13.0
normalized: true
overall_gain: 0.18270259567062658
stems:
"""
SLAKH_STEM = """\
  {name}:
    audio_rendered: {rendered}
    inst_class: {inst_class}
    integrated_loudness: -12.82074180245363
    is_drum: {drum}
    midi_program_name: {program_name}
    midi_saved: true
    plugin_name: elektrik_guitar.nkm
    program_num: {program}
"""
# name: (inst_class, midi_program_name, program_num, is_drum, audio_rendered, class); S02 and S06 are no file at all
SLAKH_STEMS: dict[str, tuple[str, str, int, bool, bool, str]] = {
    "S00": ("Guitar", "Distortion Guitar", 30, False, True, "guitar"),
    "S01": ("Guitar", "Acoustic Guitar (nylon)", 24, False, True, "guitar"),
    "S03": ("Bass", "Electric Bass (finger)", 33, False, True, "bass"),
    "S04": ("Piano", "Clavinet", 7, False, True, "piano"),
    "S05": ("Drums", "Drums", 0, True, True, "drums"),
    "S07": ("Organ", "Drawbar Organ", 16, False, True, "other"),
    "S08": ("Sound effects", "Gunshot", 127, False, False, "other"),
    "S09": ("Strings (continued)", "Synth Voice", 54, False, True, "other"),
}


def noise(seed: int, length: int, channels: int = 2, level: float = 0.05) -> Audio:
    """Whole multiples of 2^-15, so that 16 bits hold it exactly (libsndfile scales by 32767: below half)."""
    drawn = np.random.default_rng(seed).uniform(-level, level, (length, channels))
    return (np.rint(drawn * 32768) / 32768).astype(np.float32)


def write(path: Path, audio_LC: Audio, rate: int = 44100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio_LC, rate, "PCM_16")


def slakh_song(song: Path, seed: int = 0, length: int = 3000) -> dict[str, Audio]:
    """Writes a song and returns its files' audio, mono, by class. The mixture's file is of no use on purpose."""
    by_class: dict[str, Audio] = {}
    metadata = SLAKH_HEAD
    for index, (name, (kind, program_name, program, drum, rendered, stem)) in enumerate(SLAKH_STEMS.items()):
        fields = {"rendered": str(rendered).lower(), "drum": str(drum).lower(), "program": program, "name": name}
        metadata += SLAKH_STEM.format(**fields, inst_class=kind, program_name=program_name)
        if rendered:
            audio = noise(seed * 100 + index, length, 1)
            write(song / "stems" / f"{name}.flac", audio)
            by_class[stem] = by_class.get(stem, np.zeros_like(audio)) + audio
    (song / "metadata.yaml").write_text(metadata + "target_peak: -1.0\n")
    (song / "MIDI").mkdir()
    (song / "MIDI" / "S00.mid").write_bytes(b"MThd")
    (song / "all_src.mid").write_bytes(b"MThd")
    write(song / "mix.flac", noise(999, length, 1))
    return by_class


def musdb_song(song: Path, seed: int = 0, length: int = 3000) -> dict[str, Audio]:
    names = ("drums", "bass", "other", "vocals")
    stems = {name: noise(seed * 10 + index, length) for index, name in enumerate(names)}
    for name, audio in stems.items():
        write(song / f"{name}.wav", audio)
    write(song / "mixture.wav", noise(999, length))
    return stems


def stem_mp4(path: Path, tones_hz: Mapping[str, float], seconds: float = 0.6) -> None:
    """Streams of AAC, one tone each, in the mapping's order; needs ffmpeg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["ffmpeg", "-v", "error", "-y"]
    for hz in tones_hz.values():
        command += ["-f", "lavfi", "-i", f"sine=frequency={hz}:sample_rate=44100:duration={seconds}"]
    for index in range(len(tones_hz)):
        command += ["-map", str(index)]
    subprocess.run([*command, "-ac", "2", "-c:a", "aac", "-b:a", "128k", str(path)], check=True)


def moises_song(song: Path, stems: Mapping[str, Mapping[str, Audio]]) -> None:
    """`stems`: by stemName, then by the id of a track of it."""
    listed = []
    for stem, tracks in stems.items():
        for name, audio in tracks.items():
            write(song / stem / f"{name}.wav", audio)
        kinds = [{"id": name, "trackType": "any", "extension": "wav", "has_bleed": False} for name in tracks]
        listed.append({"id": f"{stem}-id", "stemName": stem, "tracks": kinds})
    about = {"song": "A Song", "artist": "An Artist", "genre": "rock", "stems": listed}
    (song / "data.json").write_text(json.dumps(about))
