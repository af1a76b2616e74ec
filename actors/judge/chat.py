"""What a judge, a simulated tool or a simulated user runs on: messages in, one text out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from raylign.contracts import Part, Sampling
from raylign.records import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One completion of a chat model.

    Example: ``Reply(text='{"answer": true}', tokens=9, seconds=0.4)``
    """

    text: str
    tokens: int  # generated; 0 where the model does not say
    seconds: float


class ChatModel(Part):
    """A chat model. Its methods are called from one event loop.

    Output is constrained by ``sampling.structure``, e.g. ``{"json": schema}``.
    """

    what = "a chat model"

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the model; part of the key of cached answers."""

    @abstractmethod
    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Reply:
        """The answer to a conversation. Raises JudgeUnavailable when there is none to be had."""

    async def close(self) -> None:
        """Give back connections."""
