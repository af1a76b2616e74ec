"""What a judge, a simulated tool or a simulated user runs on: messages in, one text out; ids scored, texts embedded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeGuard

from raylign.config.resolve import Run
from raylign.config.schema import Verb
from raylign.contracts import Part, Sampling
from raylign.errors import JudgeUnavailable, Problem
from raylign.records import Float32s, Int32s, Message

Before: TypeAlias = (
    "Sequence[Message] | Sequence[int] | Int32s"  # a conversation, which the model's own template renders
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One completion of a chat model.

    Example: ``Reply(text='{"answer": true}', tokens=9, seconds=0.4)``
    """

    text: str
    tokens: int  # generated; 0 where the model does not say
    seconds: float


def is_conversation(before: Before) -> TypeGuard[Sequence[Message]]:
    """Whether these are messages, and not ids."""
    return len(before) > 0 and isinstance(before[0], Mapping)


class ChatModel(Part):
    """A chat model. Its methods are called from one event loop.

    Output is constrained by ``sampling.structure``, e.g. ``{"json": schema}``.
    """

    what = "a chat model"
    verbs: ClassVar[frozenset[Verb]] = frozenset({Verb.complete})  # what models of this kind may do at all

    @classmethod
    def lacks(cls, key: str, config: Any, verb: Verb, run: Run) -> list[Problem]:
        """Why a model of these settings cannot do what the part that holds it at `key` asks for; empty when it can."""
        if verb in cls.verbs:
            return []
        why, fix = f"cannot {verb.value}", "name a served model, raylign.actors.judge.served.Served"
        return [Problem(key=f"{key}._target_", value=cls.__name__, why=why, fix=fix)]

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the model within a run; part of the key of answers that are kept in memory."""

    async def identity(self) -> str:
        """Name of the model across runs: another one where its weights or settings differ. Raises JudgeUnavailable."""
        return self.name

    @abstractmethod
    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Reply:
        """The answer to a conversation. Raises JudgeUnavailable when there is none to be had."""

    async def score(self, before: Before, ids: Sequence[int] | Int32s) -> Float32s:
        """[N] log-prob of each of these very ids at temperature 1, after `before` and the ids in front of it.

        before: ids; or messages, which end where the answer begins. Ids are the policy's: the model must share its
        vocabulary. Raises JudgeUnavailable.
        """
        raise JudgeUnavailable(f"{self.name} cannot score")

    async def tokens_of(self, text: str) -> list[int]:
        """The ids of a text by itself, without special ones around. Raises JudgeUnavailable."""
        raise JudgeUnavailable(f"{self.name} cannot score")

    async def embed(self, texts: Sequence[str]) -> Float32s:
        """[N, D] one vector for each text, as the model makes it. Raises JudgeUnavailable."""
        raise JudgeUnavailable(f"{self.name} cannot embed")

    async def close(self) -> None:
        """Give back connections."""
