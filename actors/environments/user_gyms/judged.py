"""Gyms whose user is a model: it answers questions about what it hides, and judges what is submitted."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from raylign.actors.environments.user_gyms.gym import Reply, UserGym
from raylign.actors.environments.user_gyms.protocol import Act
from raylign.actors.judge.asking import AsksJudge
from raylign.actors.judge.client import JudgeCounts, shared_judge
from raylign.errors import JudgeError, JudgeUnavailable, JudgeUnreadable
from raylign.records import Message

T = TypeVar("T")
COUNTS = "judge"  # key of a gym's own state: what its judge was asked so far
SAYINGS = ("Yes", "No", "Maybe")
LONGEST_THOUGHT = 400  # letters of a judge's thought
UNHEARD = "Your message could not be processed."


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """What a model is asked: its instruction, the form of its answer, and how that is read."""

    role: str
    schema: Mapping[str, Any]
    read: Callable[[Any], T]


class JudgedGym(UserGym, AsksJudge):
    """Further flags: ``judge/…``, what its model was asked so far in this episode.

    The model sees the policy's words as JSON, as data that it is not to obey. It is asked by content, so that an
    episode that is taken up again hears the same answers.
    """

    replayable = False  # answers of models may differ after a crash, so episodes go on from their snapshot

    @dataclass
    class Config(UserGym.Config, AsksJudge.Config):
        """The judge plays the user, at temperature 0 unless set."""

        failure_is_zero: bool = False  # a user without an answer pays 0 and the game goes on, as in the released code
        longest: int = 2048  # letters of a message to the user; a longer one is answered as invalid

        def __post_init__(self) -> None:
            UserGym.Config.__post_init__(self)
            AsksJudge.Config.__post_init__(self)
            if self.longest < 1:
                raise ValueError(f"longest is {self.longest}, set it to 1 or more")

    config: Config

    async def respond(self, row: Any, act: Act, own: dict[str, Any]) -> Reply:
        """See `UserGym.respond`."""
        if not act.content or len(act.content) > self.config.longest:
            return Reply(text=f"Write 1 to {self.config.longest} letters.", valid=False)
        try:
            return await self.judged(row, act, own)
        except JudgeError:
            if not self.config.failure_is_zero:
                raise
            return Reply(text=UNHEARD)

    @abstractmethod
    async def judged(self, row: Any, act: Act, own: dict[str, Any]) -> Reply:
        """Carry out an act of fitting length. Raises JudgeError."""

    def facts(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """The judge's figures."""
        return JudgeCounts(**own.get(COUNTS, {})).metrics("judge")

    async def ask(self, question: Question[T], facts: Mapping[str, Any], said: str, own: dict[str, Any]) -> T:
        """One answer of the model. facts: what it knows; said: the policy's words. Raises JudgeError."""
        counts = JudgeCounts(**own.get(COUNTS, {}))
        words = json.dumps({**facts, "said": said}, ensure_ascii=False)
        messages: list[Message] = [{"role": "system", "content": question.role}, {"role": "user", "content": words}]
        judge = shared_judge({"temperature": 0.0, **self.config.judge})
        try:
            answer = await judge.ask(messages, question.read, question.schema)
            counts.add(answer.counts)
            return answer.value
        except JudgeError as error:
            counts.asked += 1
            counts.unavailable += isinstance(error, JudgeUnavailable)
            counts.unreadable += isinstance(error, JudgeUnreadable)
            raise
        finally:
            own[COUNTS] = asdict(counts)


def schema_of(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """A thought, then these: what a judge writes."""
    thought = {"type": "string", "maxLength": LONGEST_THOUGHT}
    every = {"thought": thought, **properties}
    return {"type": "object", "properties": every, "required": list(every), "additionalProperties": False}


def yes_or_no(role: str) -> Question[str]:
    """A question with the answer Yes, No or Maybe."""
    return Question(role, schema_of(answer={"type": "string", "enum": list(SAYINGS)}), _saying)


def _saying(value: Any) -> str:
    if value["answer"] not in SAYINGS:
        raise ValueError(f"the answer is none of {', '.join(SAYINGS)}")
    return str(value["answer"])
