"""What goes over the socket between a reward worker and its child process.

Requests are pickled: the worker is trusted. Replies are JSON: the child may have been taken over by what it evaluates,
and reading its reply must not run anything.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import orjson

from raylign.actors.reward.outcome import Failed, FailureKind, Outcome
from raylign.records import Span, Value


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
        None
        if value is None
        else {
            "score": value.score,
            "details": dict(value.details),
            "channels": {name: np.asarray(channel).tolist() for name, channel in value.channels.items()},
            "roles": dict(value.roles),
            "spans": value.spans,
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
        None
        if value is None
        else Value(
            score=float(value["score"]),
            details=value["details"],
            channels={name: np.asarray(channel, np.float32) for name, channel in value["channels"].items()},
            roles={role: float(score) for role, score in value["roles"].items()},
            spans=_spans(value["spans"]),
        )
        for value in reply["values"]
    )


def _spans(calls: Any) -> tuple[tuple[Span, ...], ...] | None:
    if calls is None:
        return None
    return tuple(
        tuple(Span(int(span["start"]), int(span["end"]), float(span["score"])) for span in spans) for spans in calls
    )
