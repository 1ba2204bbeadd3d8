"""Messages between two processes of this program, without copies of the audio in them.

Arrays travel beside the pickled message (protocol 5, out of band): the sender hands them to the system from where they
are, the receiver has it put them to where they stay. Both ends are the same program, and the socket is inherited.
"""

import pickle
import socket
import struct
from typing import Any

_SIZE = struct.Struct("<Q")


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
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
        sizes = [len(views), len(pickled), *(view.nbytes for view in views)]
        self._socket.sendall(b"".join([*map(_SIZE.pack, sizes), pickled]))
        for view in views:
            self._socket.sendall(view)

    def recv(self) -> Any:
        """Raises EOFError or OSError where nobody sends any more."""
        count, pickled_size = self._sizes(2)
        sizes = self._sizes(count)
        pickled = self._read(pickled_size)
        return pickle.loads(pickled, buffers=[self._read(size) for size in sizes])

    def close(self) -> None:
        self._socket.close()

    def _sizes(self, count: int) -> list[int]:
        return [size for (size,) in _SIZE.iter_unpack(self._read(count * _SIZE.size))]

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            read = self._socket.recv_into(rest)
            if not read:
                raise EOFError
            rest = rest[read:]
        return data
