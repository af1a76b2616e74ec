"""What all gyms share: one call a turn, a budget of turns, what a turn cost the user, and what becomes of failures."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from raylign.actors.environments.user_gyms.instances import instances
from raylign.actors.environments.user_gyms.protocol import Act, Choice, Form, how_to_act, read_act
from raylign.environment import Environment, Observation
from raylign.errors import DataError, JudgeError
from raylign.records import Prompt

INSTANCE = "env_seed"  # key of Prompt.meta: the number of the instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a gym says to an act. Example: ``Reply(text="Wrong.", reward=0.0)``"""

    text: str
    reward: float = 0.0
    success: bool = False  # solved as things stand
    valid: bool = True  # it was an act of this game; what is none is answered, costs the user nothing and pays 0


@dataclass(slots=True, kw_only=True)
class Progress:
    """The state of an episode that every gym has, picklable. `own` is the gym's."""

    number: int
    turn: int = 0
    user_turns: int = 0
    valid_turns: int = 0
    success: bool = False
    done: bool = False
    own: dict[str, Any] = field(default_factory=dict)


class UserGym(Environment):
    """One instance of a file, by ``meta["env_seed"]``, its number in the file.

    Flags of every turn: ``turn``, ``budget`` (T), ``valid`` (the act was one of this game), ``user`` (it involved the
    user), ``user_turns`` and ``valid_turns`` so far, ``success`` (solved by now), ``over`` (the gym itself has ended,
    by success or budget), ``choice``, ``thought`` (letters before the act), ``lost`` (why user or judge failed, else
    empty: the episode ends and has no reward).
    """

    domain: ClassVar[str]
    rules: ClassVar[str]
    choices: ClassVar[dict[Choice, str]]  # what each is for
    bothering: ClassVar[frozenset[Choice]] = frozenset({Choice.answer})  # A_u: acts that need the user

    @dataclass
    class Config:
        """The file of instances, the budget, and what the policy is shown."""

        path: str = ""
        turns: int = 15
        show_reward: bool = True  # the reward follows the feedback, as in UserRL: the policy reads its score
        form: Form = Form.call

        def __post_init__(self) -> None:
            if self.turns < 1:
                raise ValueError(f"turns is {self.turns}, set it to 1 or more")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._progress: Progress | None = None

    @staticmethod
    @abstractmethod
    def read(row: Mapping[str, Any], place: str) -> Any:
        """An instance. Raises DataError, with the place, on a row that is none."""

    @abstractmethod
    def opening(self, row: Any) -> str:
        """What is asked of the policy."""

    @abstractmethod
    async def respond(self, row: Any, act: Act, own: dict[str, Any]) -> Reply:
        """Carry out an act; `own` is the gym's state. Raises JudgeError where user or judge have no answer."""

    def facts(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Further flags of a turn."""
        return {}

    def rows(self) -> tuple[Any, ...]:
        """All instances. Raises DataError."""
        return instances(self.config.path, self.read)

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        """See `Environment.reset`. Raises DataError on a number that no instance has."""
        rows, number = self.rows(), prompt.meta.get(INSTANCE)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(rows):
            raise DataError(
                f"{self.domain}: env_seed = {number!r} is no instance of {len(rows)}; fix: set "
                f"data.generator.first_seed=0 data.size={len(rows)}"
            )
        self._progress = Progress(number=number)
        task = self.opening(rows[number])
        if self.config.form is Form.call:
            task = "\n".join([task, how_to_act(self.config.form, self.choices), f"You have {self.config.turns} turns."])
        return Observation(messages=({"role": "user", "content": task},), flags={"domain": self.domain})

    async def step(self, action: str) -> Observation:
        """See `Environment.step`. Raises RuntimeError when the episode is over, or was never begun."""
        progress = self.progress
        if progress.done:
            raise RuntimeError("the episode is over: open another one")
        act, lost = read_act(action, self.config.form), ""
        if not isinstance(act, Act) or act.choice not in self.choices:
            why = f"there is nothing to {act.choice.value} here" if isinstance(act, Act) else act.why
            reply = Reply(text=f"Invalid turn: {why}.", valid=False)
        else:
            try:
                reply = await self.respond(self.rows()[progress.number], act, progress.own)
            except JudgeError as error:
                reply, lost = Reply(text="", valid=False), f"{type(error).__name__}: {error}"
        user = reply.valid and isinstance(act, Act) and act.choice in self.bothering
        progress.user_turns += user
        progress.valid_turns += reply.valid
        progress.success |= reply.success
        turn, progress.turn = progress.turn, progress.turn + 1
        progress.done = bool(lost) or progress.success or progress.turn >= self.config.turns
        flags = {
            "turn": turn,
            "budget": self.config.turns,
            "valid": reply.valid,
            "user": user,
            "user_turns": progress.user_turns,
            "valid_turns": progress.valid_turns,
            "success": progress.success,
            "over": progress.done,
            "choice": act.choice.value if isinstance(act, Act) else "",
            "thought": act.thought,
            "lost": lost,
        }
        return Observation(
            messages=() if progress.done else ({"role": "tool", "content": self._said(reply)},),
            reward=None if lost else reply.reward,
            done=progress.done,
            flags=flags | self.facts(progress.own),
        )

    @property
    def progress(self) -> Progress:
        """The episode as it stands. Raises RuntimeError before `reset` or `restore`."""
        if self._progress is None:
            raise RuntimeError(f"{type(self).__name__} was neither reset nor restored")
        return self._progress

    def snapshot(self) -> Any:
        """See `Environment.snapshot`."""
        return asdict(self.progress)

    def restore(self, state: Any) -> None:
        """See `Environment.restore`."""
        self._progress = Progress(**copy.deepcopy(state))

    def _said(self, reply: Reply) -> str:
        text = "-" if self.config.form is Form.marks and not reply.valid else reply.text
        return f"{text}\nReward: {reply.reward:g}" if self.config.show_reward else text
