"""Requests on their way through the in-process engine, and what it counts of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Request:
    """One request between its submission and its result."""

    prompt: Any
    params: Any
    order: int  # the seed; sorts requests that were collected while the engine was held
    convert: Callable[[Any], Any]  # RequestOutput -> result, run on the event loop
    future: asyncio.Future[Any]
    id: str = ""


@dataclass(slots=True)
class Counters:
    """Of an engine since it was started."""

    requests: int = 0
    tokens: int = 0
    steps: int = 0
    rejected: int = 0
    updates: int = 0
    busy_s: float = 0.0  # inside vLLM's step
    running: dict[str, Request] = field(default_factory=dict)
