"""Renders a WAV file through the plugin in a real host, as a program of its own: hosts keep what they load.

    python daw_scripts.py dawdreamer|pedalboard PLUGIN SONG.wav OUT.wav RATE BLOCK SECONDS [NAME=VALUE ...]

Prints the latency that the host was told. The output has all the channels the host gives.
"""

import sys
from pathlib import Path

import numpy as np
import soundfile


def dawdreamer(plugin: str, song_CN: np.ndarray, rate: int, block: int, seconds: float, values: dict) -> tuple:
    import dawdreamer as daw

    engine = daw.RenderEngine(rate, block)
    playback = engine.make_playback_processor("song", song_CN)
    stemline = engine.make_plugin_processor("stemline", plugin)
    parameters = {found["name"]: found["index"] for found in stemline.get_parameters_description()}
    for name, value in values.items():
        stemline.set_parameter(parameters[name], value)
    engine.load_graph([(playback, []), (stemline, ["song"])])
    engine.render(seconds)
    return stemline.get_audio(), stemline.get_latency_samples() if hasattr(stemline, "get_latency_samples") else -1


def pedalboard(plugin: str, song_CN: np.ndarray, rate: int, block: int, seconds: float, values: dict) -> tuple:
    from pedalboard import load_plugin

    stemline = load_plugin(plugin)
    for name, value in values.items():
        stemline._parameters[[p.name for p in stemline._parameters].index(name)].raw_value = value
    silence_CN = np.zeros((song_CN.shape[0], round(seconds * rate) - song_CN.shape[1]), np.float32)
    out_CN = stemline.process(np.concatenate([song_CN, silence_CN], axis=1), rate, buffer_size=block)
    return out_CN, stemline.reported_latency_samples


def main() -> None:
    host, plugin, song, out, rate, block, seconds, *settings = sys.argv[1:]
    song_NC, _ = soundfile.read(song, dtype="float32", always_2d=True)
    values = {name: float(value) for name, value in (setting.split("=") for setting in settings)}
    render = {"dawdreamer": dawdreamer, "pedalboard": pedalboard}[host]
    audio_CN, latency = render(plugin, np.ascontiguousarray(song_NC.T), int(rate), int(block), float(seconds), values)
    soundfile.write(Path(out), audio_CN.T, int(rate), subtype="FLOAT", format="WAV")
    print(latency)


if __name__ == "__main__":
    main()
