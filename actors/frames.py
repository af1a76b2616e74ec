"""Length-prefixed frames on a socket between two processes of ours."""

from __future__ import annotations

import socket
import struct
import time

HEADER = struct.Struct("<Q")
LARGEST_REPLY = 1 << 28  # bytes; a child that claims more is broken


def send_frame(connection: socket.socket, payload: bytes) -> None:
    """Length, then bytes. Raises OSError when the other end is gone or the socket's timeout passes."""
    connection.sendall(HEADER.pack(len(payload)) + payload)


def receive_frame(connection: socket.socket, deadline: float | None = None) -> bytes:
    """One frame. deadline: `time.monotonic` value. Raises TimeoutError past it, EOFError at the end of the stream."""
    (length,) = HEADER.unpack(_exactly(connection, HEADER.size, deadline))
    if length > LARGEST_REPLY:
        raise EOFError(f"a frame of {length} bytes")
    return _exactly(connection, length, deadline)


def _exactly(connection: socket.socket, count: int, deadline: float | None) -> bytes:
    chunks: list[bytes] = []
    while count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        chunk = connection.recv(min(count, 1 << 20))
        if not chunk:
            raise EOFError("the other end is gone")
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)
