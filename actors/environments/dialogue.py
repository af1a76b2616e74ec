"""Dialogues with a user and tools: a turn is a user's message and all that the policy does until it replies to it.

    policy --calls--> toolbox --answers--> policy ... --reply--> examiner --goes on?--> user --message--> policy
                each of these is a step; the examiner may look at every one

Stops: the user has nothing more to say, the examiner ends it, a call that cannot be carried out, or too many steps or
turns. When judge, simulator or tool machinery fails the episode ends as *lost*: its reward is Missing.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from raylign.actors.judge.client import JudgeCounts
from raylign.actors.tools.answers import ERROR_MARK, Source, ToolAnswer, Toolbox, answers
from raylign.actors.tools.calls import AssistantTurn, CallFault, read_message
from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import Part
from raylign.environment import Environment, Observation
from raylign.errors import JudgeError, ToolFailure
from raylign.records import Message, Prompt


class Stop(StrEnum):
    """Why a dialogue ended."""

    COMPLETED = "completed"
    GATE = "gate"  # the examiner ended it
    UNPARSABLE = "unparsable"
    UNKNOWN_TOOL = "unknown_tool"
    SCHEMA = "schema"
    STEPS = "steps"
    TURNS = "turns"
    LOST = "lost"  # judge, simulator or tool machinery failed; flag `lost` says how


FAULT_STOPS = {
    CallFault.UNPARSABLE: Stop.UNPARSABLE,
    CallFault.UNKNOWN: Stop.UNKNOWN_TOOL,
    CallFault.SCHEMA: Stop.SCHEMA,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One message of the policy and what its calls brought. Overlapping calls of one message are one step."""

    said: AssistantTurn
    answers: tuple[ToolAnswer, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether some answer carries the error mark."""
        return any(ERROR_MARK in answer.text for answer in self.answers)


@dataclass(slots=True, kw_only=True)
class DialogueTurn:
    """A user's message and the steps that followed it."""

    user: str
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Dialogue:
    """The state of an episode, picklable. `notes` are the examiner's and the user's own."""

    prompt: Prompt
    seed: int
    turns: list[DialogueTurn]
    counts: JudgeCounts = field(default_factory=JudgeCounts)  # of all models asked by user, examiner and tools
    sources: dict[str, int] = field(default_factory=dict)  # answers of tools by source or fault
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def turn(self) -> int:
        """Number of the present turn, from 0."""
        return len(self.turns) - 1

    @property
    def steps(self) -> list[Step]:
        """Steps of the present turn."""
        return self.turns[-1].steps

    def copy(self) -> Dialogue:
        """An independent copy. Messages are never changed, so they are shared."""
        return Dialogue(
            prompt=self.prompt,
            seed=self.seed,
            turns=[DialogueTurn(user=turn.user, steps=list(turn.steps)) for turn in self.turns],
            counts=copy.copy(self.counts),
            sources=dict(self.sources),
            notes=copy.deepcopy(self.notes),
        )


class User(Part):
    """Who talks to the policy; holds no state of an episode."""

    what = "a user"

    @abstractmethod
    async def next(self, dialogue: Dialogue) -> str | None:
        """The next message after the policy's reply; None: nothing more. Raises JudgeError when a model failed."""


class Examiner(Part):
    """Who watches the dialogue; holds no state of an episode."""

    what = "an examiner"

    @abstractmethod
    async def look(self, dialogue: Dialogue) -> Mapping[str, Any]:
        """Flags of the last step. Raises JudgeError when a verdict is missing."""

    @abstractmethod
    def proceeds(self, dialogue: Dialogue) -> bool:
        """Whether the dialogue may go on after the reply that ended the present turn."""


class ToolDialogue(Environment):
    """A dialogue with tools. Flags of every call of the policy: ``turn``, ``step`` (within the turn), the examiner's,
    ``stop`` (empty while it goes on) and figures of the episode so far, which become its metrics.

    A call of an unknown tool is the policy's fault and ends the dialogue, which is judged by what was reached. The
    model behind judge or simulator is asked by content, so that an episode taken up again hears the same answers.
    """

    replayable = False  # answers of models may differ after a crash, so episodes go on from their snapshot

    @dataclass
    class Config:
        """Who takes part, and the limits. Defaults of the limits are CM2's (arXiv:2602.12268)."""

        user: Node = node(User, "raylign.actors.environments.users.FixedUser")
        tools: Node = node(Toolbox, "raylign.actors.tools.recorded.RecordedTools")
        examiner: Node = node(Examiner)  # empty: nobody watches
        max_steps: int = 30  # messages of the policy in the whole dialogue
        max_turns: int = 30
        stop_on_fault: bool = True  # a call that cannot be carried out ends the dialogue; else its error is answered
        open_tag: str = "<think>"
        close_tag: str = "</think>"

        def __post_init__(self) -> None:
            for name in ("max_steps", "max_turns"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} is {getattr(self, name)}, set it to 1 or more")

    def __init__(self, config: Config) -> None:
        self.config = config
        self._user = build(User, config.user, "environment.fn.user")
        self._tools = build(Toolbox, config.tools, "environment.fn.tools")
        self._examiner: Examiner | None = None
        if config.examiner:
            self._examiner = build(Examiner, config.examiner, "environment.fn.examiner")
        self._dialogue: Dialogue

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        """Begin with the prompt's last message, which must be the user's first."""
        first = str(prompt.messages[-1]["content"]) if prompt.messages else ""
        self._dialogue = Dialogue(prompt=prompt, seed=seed, turns=[DialogueTurn(user=first)])
        return Observation(messages=prompt.messages)

    async def step(self, action: str) -> Observation:
        """Carry out the calls of a message, or pass a reply on to examiner and user."""
        config, dialogue = self.config, self._dialogue
        turn, step = dialogue.turn, len(dialogue.steps)
        said = read_message(action, (config.open_tag, config.close_tag))
        flags: dict[str, Any] = {"turn": turn, "step": step, "lost": ""}
        following: tuple[Message, ...] = ()
        try:
            results = await answers(said.calls, self._tools, dialogue.prompt)
            self._count(results)
            dialogue.steps.append(Step(said=said, answers=tuple(results)))
            if self._examiner is not None:
                flags |= await self._examiner.look(dialogue)
            following, stop = await self._go_on(said, results)
        except (JudgeError, ToolFailure) as error:
            stop = Stop.LOST
            flags["lost"] = f"{type(error).__name__}: {error}"
        return Observation(messages=following, done=stop is not None, flags=flags | self._figures(turn, stop))

    def snapshot(self) -> Dialogue:
        """The dialogue so far."""
        return self._dialogue.copy()

    def restore(self, state: Dialogue) -> None:
        """Go on from a snapshot."""
        self._dialogue = state.copy()

    def reseed(self, seed: int) -> None:
        """Let a simulated user sample its further messages anew."""
        self._dialogue.seed = seed

    async def _go_on(self, said: AssistantTurn, results: list[ToolAnswer]) -> tuple[tuple[Message, ...], Stop | None]:
        """What the policy reads next, or why there is nothing more."""
        config, dialogue = self.config, self._dialogue
        stops = [FAULT_STOPS[answer.fault] for answer in results if answer.fault in FAULT_STOPS]
        if stops and config.stop_on_fault:
            return (), stops[0]
        message = None if said.calls else await self._next_turn()
        if isinstance(message, Stop):
            return (), message
        if sum(len(turn.steps) for turn in dialogue.turns) >= config.max_steps:
            return (), Stop.STEPS
        if message is None:
            return tuple({"role": "tool", "content": answer.text} for answer in results), None
        dialogue.turns.append(DialogueTurn(user=message))
        return ({"role": "user", "content": message},), None

    async def _next_turn(self) -> str | Stop:
        """The user's next message after a reply, or why there is none."""
        dialogue = self._dialogue
        if self._examiner is not None and not self._examiner.proceeds(dialogue):
            return Stop.GATE
        message = await self._user.next(dialogue)
        if message is None:
            return Stop.COMPLETED
        return Stop.TURNS if len(dialogue.turns) >= self.config.max_turns else message

    def _count(self, results: list[ToolAnswer]) -> None:
        for answer in results:
            kind = answer.fault.value if answer.fault else answer.source.value
            self._dialogue.sources[kind] = self._dialogue.sources.get(kind, 0) + 1
            if answer.counts is not None:
                self._dialogue.counts.add(answer.counts)

    def _figures(self, turn: int, stop: Stop | None) -> dict[str, Any]:
        dialogue = self._dialogue
        figures: dict[str, Any] = {"stop": stop.value if stop else "", "reached": turn + 1}
        figures |= {f"stop_{kind.value}": float(stop is kind) for kind in Stop}
        kinds = (Source.TOOL, Source.RECORDED, Source.SIMULATED, *CallFault)
        figures |= {f"tool_{kind.value}": dialogue.sources.get(kind.value, 0) for kind in kinds}
        return figures | dialogue.counts.metrics("judge")
