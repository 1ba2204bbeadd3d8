"""The sound card, behind sounddevice; the only module that imports it."""

import asyncio
from collections.abc import Callable
from typing import Any

from pyserver.audio.files import Block
from pyserver.errors import StemlineError


class NoSoundDevice(StemlineError):
    reason = "NO_SOUND_DEVICE"


def sounddevice() -> Any:
    """The module; its import fails where PortAudio is missing. Raises NoSoundDevice."""
    try:
        import sounddevice as module
    except OSError as error:  # its way to say that the library is not there
        raise NoSoundDevice(
            f"the PortAudio library cannot be loaded ({error}); on Debian and Ubuntu: apt install libportaudio2"
        ) from error
    except ImportError as error:
        raise NoSoundDevice("the package sounddevice is missing: pip install sounddevice") from error
    return module


def devices() -> list[str]:
    """One line for each device, with the index that names it."""
    try:
        found = sounddevice().query_devices()
    except StemlineError:
        raise
    except Exception as error:
        raise NoSoundDevice(f"the sound devices cannot be listed ({error})") from error
    return [
        f"{index:3d}  {device['name']}  (in {device['max_input_channels']}, out {device['max_output_channels']}, "
        f"{device['default_samplerate']:.0f} Hz)"
        for index, device in enumerate(found)
    ]


class SoundCard:
    """An input and an output device that run on one clock. Raises NoSoundDevice if there are none such."""

    def __init__(self, source: str | None, sink: str | None, sample_rate_hz: int, block_samples: int) -> None:
        self._module = sounddevice()
        self._devices = (_named(source), _named(sink))
        self._rate, self._block = sample_rate_hz, block_samples
        if not devices():
            raise NoSoundDevice("this machine has no sound devices; to try without: --null FILE --record FILE")
        try:
            found_in = self._module.query_devices(self._devices[0], "input")
            found_out = self._module.query_devices(self._devices[1], "output")
        except Exception as error:
            raise NoSoundDevice(f"{error}; `python -m pyserver live --list-devices` names the devices") from error
        self.channels = min(2, int(found_in["max_input_channels"]))
        self._out_channels = min(2, int(found_out["max_output_channels"]))

    async def run(self, exchange: Callable[[Block], Block], seconds: float | None) -> None:
        """Plays what `exchange` gives for what comes in, for so many seconds or until cancelled."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        left = None if seconds is None else round(seconds * self._rate)
        failures: list[BaseException] = []

        def callback(in_NC: Block, out_NC: Block, frames: int, _time: object, _status: object) -> None:
            nonlocal left
            try:
                mix_NC = exchange(in_NC.copy())
                out_NC[:] = mix_NC if mix_NC.shape[1] == self._out_channels else mix_NC.mean(axis=1, keepdims=True)
                left = None if left is None else left - frames
            except BaseException as error:
                failures.append(error)
            if failures or (left is not None and left <= 0):
                loop.call_soon_threadsafe(ended.set)

        try:
            stream = self._module.Stream(
                samplerate=self._rate,
                blocksize=self._block,
                device=self._devices,
                channels=(self.channels, self._out_channels),
                dtype="float32",
                callback=callback,
            )
        except Exception as error:
            raise NoSoundDevice(f"the sound devices cannot be opened ({error})") from error
        with stream:
            await ended.wait()
        if failures:
            raise failures[0]


def _named(device: str | None) -> int | str | None:
    return int(device) if device is not None and device.isdigit() else device
