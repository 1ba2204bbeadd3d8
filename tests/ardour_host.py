"""Ardour without a window: a session with the plugin in it, exported by Ardour's own command line."""

import base64
import shutil
import struct
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import soundfile
from plugin_support import BUSES, Audio, bundle, host_environment, lv2_bundle

LIBRARY = Path("/usr/lib/ardour7")
PROGRAMS = ("ardour7-new_session", "ardour7-lua", "ardour7-export")
CLASS_ID = b"ABCDEF019182FAEB53746D6C53746D31"
SUPERCLOCK_HZ = 282_240_000  # Ardour's unit of time
TRACKS = (*BUSES, "Dry")  # side by side in the master bus


def installed() -> bool:
    return LIBRARY.is_dir() and all(shutil.which(program) for program in PROGRAMS)


def export(folder: Path, home: Path, song: Path, state: bytes | None, seconds: float) -> dict[str, Audio]:
    """What Ardour exports of `song` through the plugin, by bus; "Dry" is the song without the plugin. It is the VST3 in
    `state`, or where that is None the LV2 as it is when it has just been inserted. `home` is the server's."""
    rate = soundfile.info(song).samplerate
    session, out = folder / "session", folder / "export.wav"
    ardour = _Ardour(folder / "user", home)
    if state is not None:
        ardour.run(LIBRARY / "ardour-vst3-scanner", "-q", ardour.plugin)
    ardour.run("ardour7-new_session", "-s", rate, "-m", 2 * len(TRACKS), session, "session")
    ardour.run(
        "ardour7-lua",
        Path(__file__).with_name("ardour_session.lua"),
        session,
        "session",
        "LV2" if state is None else "VST3",
    )
    _fill(session / "session.ardour", song, state, round(seconds * rate))
    ardour.run("ardour7-export", "-b", "float", "-s", rate, "-o", out, session, "session")
    audio_NC, exported_rate = soundfile.read(out, dtype="float32", always_2d=True)
    assert exported_rate == rate
    assert audio_NC.shape[1] == 2 * len(TRACKS), audio_NC.shape
    return {track: audio_NC[:, 2 * index : 2 * index + 2] for index, track in enumerate(TRACKS)}


class _Ardour:
    """Its programs, for a user who has nothing but the plugin."""

    def __init__(self, user: Path, home: Path) -> None:
        self.plugin = user / ".vst3" / "Stemline.vst3"
        self.plugin.parent.mkdir(parents=True)
        self.plugin.symlink_to(bundle())
        lv2 = user / ".lv2" / "Stemline.lv2"
        lv2.parent.mkdir()
        lv2.symlink_to(lv2_bundle())
        self.environment = host_environment(
            home,
            HOME=str(user),
            XDG_CONFIG_HOME=str(user / "config"),
            XDG_CACHE_HOME=str(user / "cache"),
            XDG_DATA_HOME=str(user / "data"),
            LD_LIBRARY_PATH=str(LIBRARY),
            ARDOUR_DATA_PATH="/usr/share/ardour7",
            ARDOUR_CONFIG_PATH="/etc/ardour7",
            ARDOUR_DLL_PATH=str(LIBRARY),
            # 7.3 damages its heap in every other export, with or without plugins, where it uses AVX-512.
            ARDOUR_FPU_FLAGS="0",
        )
        self.environment.pop("DISPLAY", None)

    def run(self, *command: object) -> None:
        done = subprocess.run(
            [str(word) for word in command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command[0]}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _fill(path: Path, song: Path, state: bytes | None, samples: int) -> None:
    """Puts the song on both tracks and the state into the plugin of a saved session, which is to be `samples` long."""
    tree = ElementTree.parse(path)
    session = tree.getroot()
    info = soundfile.info(song)
    assert info.channels == 2
    ids = iter(range(int(session.attrib["id-counter"]), 1 << 30))

    sources = _child(session, "Sources")
    source_ids = [str(next(ids)) for _ in range(2)]
    for channel, source in enumerate(source_ids):
        ElementTree.SubElement(
            sources,
            "Source",
            {
                "name": str(song),
                "id": source,
                "type": "audio",
                "flags": "",
                "channel": str(channel),
                "origin": str(song),
            }
            | {"gain": "1"},
        )
    for playlist in _child(session, "Playlists"):
        ElementTree.SubElement(
            playlist, "Region", _region(str(next(ids)), source_ids, _superclock(info.frames, info.samplerate))
        )

    _wire(session)

    whole = {"id": str(next(ids)), "name": "session", "flags": "IsSessionRange", "locked": "0"}
    whole |= {"start": "a0", "end": f"a{_superclock(samples, info.samplerate)}"}
    ElementTree.SubElement(_child(session, "Locations"), "Location", whole)

    if state is not None:
        (chunk,) = session.iterfind(".//Processor/vst3/chunk")
        chunk.text = base64.b64encode(_vst3_preset(state)).decode()
    session.set("id-counter", str(next(ids)))
    tree.write(path, encoding="UTF-8", xml_declaration=True)


def _wire(session: ElementTree.Element) -> None:
    """Each stereo output of the plugin to a bus of its own; tracks and buses side by side into the master bus."""
    ports = {port.attrib["name"]: port for port in session.iterfind("Routes/Route/IO/Port")}
    for port in ports.values():
        for connection in port.findall("Connection"):
            port.remove(connection)

    def connect(source: str, first_output: int, sink: str, first_input: int) -> None:
        for channel in (1, 2):
            output = f"{source}/audio_out {first_output + channel}"
            entry = f"{sink}/audio_in {first_input + channel}"
            ElementTree.SubElement(ports[output], "Connection", {"other": entry})
            ElementTree.SubElement(ports[entry], "Connection", {"other": output})

    for index, bus in enumerate(BUSES):
        connect("Song", 2 * index, bus, 0)
    for index, track in enumerate(TRACKS):
        connect(track, 0, "Master", 2 * index)


def _region(region: str, sources: list[str], length: int) -> dict[str, str]:
    fields = {"id": region, "name": "song", "type": "audio", "channels": str(len(sources))}
    fields |= {"start": "a0", "length": f"a{length}@a0", "opaque": "1", "scale-amplitude": "1"}
    # A region fades in and out if nothing else is said.
    fields |= dict.fromkeys(("fade-in-active", "fade-out-active", "envelope-active", "muted"), "0")
    for index, source in enumerate(sources):
        fields |= {f"source-{index}": source, f"master-source-{index}": source}
    return fields


def _vst3_preset(state: bytes) -> bytes:
    """A VST3 plugin's state in Steinberg's preset format, in which Ardour keeps it."""
    header = struct.pack("<4si32sq", b"VST3", 1, CLASS_ID, 48 + len(state))
    return header + state + struct.pack("<4si4sqq", b"List", 1, b"Comp", 48, len(state))


def _superclock(samples: int, rate: int) -> int:
    assert SUPERCLOCK_HZ % rate == 0
    return samples * (SUPERCLOCK_HZ // rate)


def _child(parent: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = parent.find(tag)
    assert found is not None, tag
    return found
