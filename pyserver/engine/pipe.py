"""Messages between two processes of this program, without copies of the audio in them.

Arrays travel beside the pickled message (protocol 5, out of band): the sender hands them to the system from where they
are, the receiver has it put them to where they stay. Both ends are the same program, and the socket is inherited.
A message is two sizes, of how many arrays and of what was pickled; the arrays' sizes; the pickled; the arrays.
"""

import asyncio
import pickle
import socket
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np

_SIZE = struct.Struct("<Q")
_AT_ONCE = 1 << 18
"""What is handed over or taken in one call to the system, arrays and all, since a copy of so little costs less than
another call: most live windows and their stems."""


class Pipe:
    """One end. One thread may send while another receives; `Pipe.pair` makes two ends."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._inbox: _Inbox | None = None  # made where it is needed: one end goes to another process first
        self._received: deque[Any] = deque()

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
        if self._inbox is None:
            self._inbox = _Inbox()
        while not self._received:
            count = self._socket.recv_into(self._inbox.room())
            if not count:
                raise EOFError
            self._received.extend(self._inbox.filled(count))
        return self._received.popleft()

    async def on_loop(self, receive: Callable[[Any], None], ended: Callable[[], None]) -> "LoopPipe":
        """This end, from now on as a part of the running event loop."""
        made = await asyncio.get_running_loop().create_connection(lambda: LoopPipe(receive, ended), sock=self._socket)
        return made[1]

    def close(self) -> None:
        self._socket.close()


class LoopPipe(asyncio.BufferedProtocol):
    """One end on an event loop: `receive` is called with each message, `ended` once there can be no more.

    Threads would do as well, but after each of their calls to the system they have to wait for the interpreter, behind
    whatever the event loop computes: where windows of many sessions fall due at once, for tens of milliseconds.
    """

    def __init__(self, receive: Callable[[Any], None], ended: Callable[[], None]) -> None:
        self._receive, self._ended = receive, ended
        self._inbox = _Inbox()
        self._transport: asyncio.Transport | None = None

    def send(self, message: object) -> None:
        """Never waits: what the system does not take at once is sent later. Nobody listens any more: it is dropped."""
        assert self._transport is not None
        if not self._transport.is_closing():
            for part in _parts_of(message):
                self._transport.write(part)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._inbox.room()

    def buffer_updated(self, nbytes: int) -> None:
        for message in self._inbox.filled(nbytes):
            self._receive(message)


class _Inbox:
    """Bytes as they come in, made into messages."""

    def __init__(self) -> None:
        self._mixed = memoryview(bytearray(_AT_ONCE))
        self._begin()

    def room(self) -> memoryview:
        """Where the next bytes belong: where they stay if they are many, else to be sorted out by `filled`."""
        return self._rest if len(self._rest) >= len(self._mixed) else self._mixed

    def filled(self, count: int) -> Iterator[Any]:
        """The messages that so many bytes, in what `room` gave, complete."""
        if len(self._rest) >= len(self._mixed):
            yield from self._taken(count)
            return
        mixed = self._mixed[:count]
        while mixed:
            part, mixed = mixed[: len(self._rest)], mixed[len(self._rest) :]
            self._rest[: len(part)] = part
            yield from self._taken(len(part))

    def _begin(self) -> None:
        self._message = _arriving()
        self._rest = next(self._message)

    def _taken(self, count: int) -> Iterator[Any]:
        self._rest = self._rest[count:]
        while not self._rest:
            try:
                self._rest = next(self._message)
            except StopIteration as end:
                self._begin()
                yield end.value


def _parts_of(message: object) -> list[bytes | memoryview]:
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = [len(pickled), *(view.nbytes for view in views)]
    parts: list[bytes | memoryview] = [b"".join([*map(_SIZE.pack, [len(views), *sizes]), pickled]), *views]
    return [b"".join(parts)] if sum(sizes) <= _AT_ONCE else parts


def _arriving() -> Generator[memoryview, None, Any]:
    """One message: gives what is to be filled next, one after the other, and returns what came."""
    yield memoryview(head := bytearray(2 * _SIZE.size))
    count, pickled_size = _sizes(head)
    yield memoryview(rest := bytearray(count * _SIZE.size + pickled_size))
    sizes, pickled = rest[: count * _SIZE.size], memoryview(rest)[count * _SIZE.size :]
    arrays = [np.empty(size, np.uint8) for size in _sizes(sizes)]  # a bytearray would be cleared first
    yield from (array.data for array in arrays)
    return pickle.loads(pickled, buffers=arrays)


def _sizes(packed: bytearray) -> list[int]:
    return [size for (size,) in _SIZE.iter_unpack(packed)]
