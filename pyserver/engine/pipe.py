"""Messages between two processes of this program, without copies of the audio in them.

Arrays travel beside the pickled message (protocol 5, out of band): the sender hands them to the system from where they
are, the receiver has it put them to where they stay. Both ends are the same program, and the socket is inherited.
A message is two sizes, of how many arrays and of what was pickled; the arrays' sizes; the pickled; the arrays.
"""

import asyncio
import pickle
import socket
import struct
from collections.abc import Callable, Generator
from typing import Any

_SIZE = struct.Struct("<Q")
_READ_AT_ONCE = 1 << 18
"""What is read on an event loop before it is known whose it is: most live windows, stems and all."""


class Pipe:
    """One end. One thread may send while another receives; `Pipe.pair` makes two ends."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def pair(cls) -> "tuple[Pipe, Pipe]":
        ours, theirs = socket.socketpair()
        return cls(ours), cls(theirs)

    def send(self, message: object) -> None:
        """Raises OSError where nobody listens any more."""
        for part in _parts_of(message):
            self._socket.sendall(part)

    def recv(self) -> Any:
        """Raises EOFError or OSError where nobody sends any more."""
        message = _arriving()
        rest = memoryview(next(message))
        while True:
            while rest:
                read = self._socket.recv_into(rest)
                if not read:
                    raise EOFError
                rest = rest[read:]
            try:
                rest = memoryview(next(message))
            except StopIteration as end:
                return end.value

    async def on_loop(self, receive: Callable[[Any], None], ended: Callable[[], None]) -> "LoopPipe":
        """This end, from now on as a part of the running event loop."""
        made = await asyncio.get_running_loop().create_connection(lambda: LoopPipe(receive, ended), sock=self._socket)
        return made[1]

    def close(self) -> None:
        self._socket.close()


class LoopPipe(asyncio.BufferedProtocol):
    """One end on an event loop: `receive` is called with each message, `ended` once there can be no more.

    Threads would do as well, but each of their calls to the system has to wait for the interpreter afterwards, behind
    whatever the event loop computes: a window of many sessions that fall due at once came late by tens of milliseconds.
    """

    def __init__(self, receive: Callable[[Any], None], ended: Callable[[], None]) -> None:
        self._receive, self._ended = receive, ended
        self._transport: asyncio.Transport | None = None
        self._read = memoryview(bytearray(_READ_AT_ONCE))
        self._begin()

    def send(self, message: object) -> None:
        """Never waits: what the system does not take at once is sent later. Nobody listens any more: it is dropped."""
        assert self._transport is not None
        if not self._transport.is_closing():
            for part in _parts_of(message):
                self._transport.write(part)

    def close(self) -> None:
        """Gives up what is not sent yet."""
        assert self._transport is not None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()

    @property
    def _directly(self) -> bool:
        """Whether what comes next is put where it stays: it is so long that nothing else can be read with it."""
        return len(self._rest) >= len(self._read)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._rest if self._directly else self._read

    def buffer_updated(self, nbytes: int) -> None:
        if self._directly:
            self._filled(nbytes)
            return
        read = self._read[:nbytes]
        while read:
            count = min(len(read), len(self._rest))
            self._rest[:count] = read[:count]
            read = read[count:]
            self._filled(count)

    def _begin(self) -> None:
        self._message = _arriving()
        self._rest = memoryview(next(self._message))

    def _filled(self, count: int) -> None:
        self._rest = self._rest[count:]
        while not self._rest:
            try:
                self._rest = memoryview(next(self._message))
            except StopIteration as end:
                self._begin()
                self._receive(end.value)


def _parts_of(message: object) -> list[bytes | memoryview]:
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = [len(views), len(pickled), *(view.nbytes for view in views)]
    return [b"".join([*map(_SIZE.pack, sizes), pickled]), *views]


def _arriving() -> Generator[bytearray, None, Any]:
    """One message: gives what is to be filled next, one after the other, and returns what came."""
    yield (head := bytearray(2 * _SIZE.size))
    count, pickled_size = _sizes(head)
    yield (rest := bytearray(count * _SIZE.size + pickled_size))
    sizes, pickled = rest[: count * _SIZE.size], memoryview(rest)[count * _SIZE.size :]
    arrays = [bytearray(size) for size in _sizes(sizes)]
    yield from arrays
    return pickle.loads(pickled, buffers=arrays)


def _sizes(packed: bytearray) -> list[int]:
    return [size for (size,) in _SIZE.iter_unpack(packed)]
