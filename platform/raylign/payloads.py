"""Payloads by reference: the driver owns what is large beside a trajectory's tokens, and everyone else fetches it.

    rollout worker --Payload--> rewards
                   --Payload--> driver, `referred` --Reference--> rows, batch, forward kind: `fetch`
                                                   --`whole`, Payload--> checkpoint

A reference means nothing outside the run that made it, so it is not among the records that `plain` reads back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raylign.records import Payload, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """A payload that lies in the object store, and what it is. It lies there as long as anyone holds the reference.

    `handle`: the object's reference; without Ray the array itself.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    handle: Any


def put(payload: Payload) -> Reference:
    """Store a payload; whoever calls owns it, and it dies with its owner. Blocks while it is copied."""
    import ray  # not with this module: what only names references starts faster

    content = payload.content
    return Reference(
        kind=payload.kind,
        shape=content.shape,
        dtype=str(content.dtype),
        bytes=content.nbytes,
        handle=ray.put(content) if ray.is_initialized() else content,
    )


def fetch(reference: Reference) -> NDArray[Any]:
    """The content, read-only where it comes from the store. Blocks. Raises ray.exceptions.ObjectLostError."""
    import ray

    content: NDArray[Any] = reference.handle
    return content if isinstance(content, np.ndarray) else ray.get(reference.handle)


def referred(trajectory: Trajectory) -> Trajectory:
    """The trajectory with references in place of its payloads."""
    if not any(isinstance(value, Payload) for value in trajectory.payload.values()):
        return trajectory
    found = {name: put(value) if isinstance(value, Payload) else value for name, value in trajectory.payload.items()}
    return replace(trajectory, payload=found)


def whole(trajectory: Trajectory) -> Trajectory:
    """The trajectory with payloads in place of its references."""
    if not references(trajectory.payload):
        return trajectory
    found = {
        name: Payload(kind=value.kind, content=fetch(value)) if isinstance(value, Reference) else value
        for name, value in trajectory.payload.items()
    }
    return replace(trajectory, payload=found)


def references(payload: Mapping[str, Any]) -> dict[str, Reference]:
    """Those of a payload's values that are references."""
    return {name: value for name, value in payload.items() if isinstance(value, Reference)}


def described(value: Any) -> dict[str, Any]:
    """What a value of a payload is, without its content."""
    if isinstance(value, Payload):
        content = value.content
        return {"kind": value.kind, "shape": content.shape, "dtype": str(content.dtype), "bytes": content.nbytes}
    if isinstance(value, Reference):
        return {"kind": value.kind, "shape": value.shape, "dtype": value.dtype, "bytes": value.bytes}
    return {"kind": type(value).__name__}
