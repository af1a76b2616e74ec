"""Frames on the socket between a reward worker and its child process.

Requests are pickled: the worker is trusted. Replies are JSON: the child may have been taken over by what it evaluates,
and reading its reply must not run anything.
"""

from __future__ import annotations

import pickle
import socket
import struct
import time
from typing import Any

import numpy as np
import orjson

from raylign.actors.reward.outcome import Failed, FailureKind, Outcome
from raylign.records import Value

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


def pack_request(request: Any) -> bytes:
    """Bytes of any picklable object, on the worker's side."""
    return pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)


def unpack_request(payload: bytes) -> Any:
    """The object, on the child's side."""
    return pickle.loads(payload)


def pack_outcome(outcome: Outcome) -> bytes:
    """JSON bytes. Details that JSON cannot hold become their text."""
    if isinstance(outcome, Failed):
        return orjson.dumps({"kind": outcome.kind.value, "reason": outcome.reason})
    values = [
        {
            "score": value.score,
            "details": dict(value.details),
            "channels": {name: np.asarray(channel).tolist() for name, channel in value.channels.items()},
        }
        for value in outcome
    ]
    return orjson.dumps({"values": values}, default=str, option=orjson.OPT_NON_STR_KEYS)


def unpack_outcome(payload: bytes) -> Outcome:
    """The outcome. Raises ValueError, KeyError or TypeError on anything that is none."""
    reply = orjson.loads(payload)
    if "values" not in reply:
        return Failed(kind=FailureKind(reply["kind"]), reason=str(reply["reason"]))
    return tuple(
        Value(
            score=float(value["score"]),
            details=value["details"],
            channels={name: np.asarray(channel, np.float32) for name, channel in value["channels"].items()},
        )
        for value in reply["values"]
    )
