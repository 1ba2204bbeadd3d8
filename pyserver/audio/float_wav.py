"""32-bit float WAV, written by ourselves: libsndfile puts the time of day into the header, and the same stems shall be
the same bytes. RF64 (EBU Tech 3306) where the sizes do not fit into 32 bits.
"""

import struct
from typing import Protocol

import numpy as np
import numpy.typing as npt

_LIMIT_BYTES = (1 << 32) - (1 << 16)  # the rest is room for headers
_UNKNOWN = 0xFFFF_FFFF  # "see the ds64 chunk"
_IEEE_FLOAT, _EXTENSIBLE = 0x0003, 0xFFFE
_FLOAT_GUID = struct.pack("<IHH8s", 3, 0, 0x10, bytes.fromhex("800000aa00389b71"))
_SPEAKERS = {6: 0x3F, 8: 0x63F}  # 5.1 and 7.1 in the order of WAV; other counts name no speakers


class Sink(Protocol):
    """A seekable binary file. A write that falls short remembers why."""

    def write(self, data: bytes) -> int: ...
    def seek(self, offset: int) -> int: ...


class FloatWav:
    """Writes interleaved (N, C) blocks after a header for `num_samples`, which `close` corrects if they were others."""

    def __init__(self, sink: Sink, sample_rate_hz: int, channels: int, num_samples: int) -> None:
        self._sink, self._rate, self._channels = sink, sample_rate_hz, channels
        self._large = num_samples * channels * 4 > _LIMIT_BYTES
        self._promised, self._written = num_samples, 0
        sink.write(self._header(num_samples))

    def write(self, block: npt.NDArray[np.float32], /) -> None:
        self._sink.write(np.ascontiguousarray(block, dtype="<f4").tobytes())
        self._written += len(block)

    def close(self) -> None:
        if self._written != self._promised:
            self._sink.seek(0)
            self._sink.write(self._header(self._written))
            self._promised = self._written

    def _header(self, num_samples: int) -> bytes:
        data_bytes = num_samples * self._channels * 4
        chunks = self._format() + struct.pack("<4sII", b"fact", 4, min(num_samples, _UNKNOWN))
        riff_bytes = 4 + (36 if self._large else 0) + len(chunks) + 8 + data_bytes
        if not self._large:
            head = struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE")
            return head + chunks + struct.pack("<4sI", b"data", data_bytes)
        head = struct.pack("<4sI4s", b"RF64", _UNKNOWN, b"WAVE")
        head += struct.pack("<4sIQQQI", b"ds64", 28, riff_bytes, data_bytes, num_samples, 0)
        return head + chunks + struct.pack("<4sI", b"data", _UNKNOWN)

    def _format(self) -> bytes:
        frame_bytes = 4 * self._channels
        common = (self._channels, self._rate, self._rate * frame_bytes, frame_bytes, 32)
        if self._channels <= 2:
            return struct.pack("<4sIHHIIHHH", b"fmt ", 18, _IEEE_FLOAT, *common, 0)
        speakers = _SPEAKERS.get(self._channels, 0)
        return struct.pack("<4sIHHIIHHHHI16s", b"fmt ", 40, _EXTENSIBLE, *common, 22, 32, speakers, _FLOAT_GUID)
