"""Any registered gymnasium environment with discrete or box actions, played by text.

The instance (``env_seed``) seeds `reset`; the episode's noise then comes from a stream of its own, so that two episodes
of an instance begin alike and go on differently. An environment that draws its noise elsewhere than from
``env.np_random`` is not reseeded by this: it then follows the instance's seed.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType
from typing import Any

import numpy as np

from raylign.actors.environments.agent_format import AgentFormat, answer_of, how_to_answer, words_of
from raylign.actors.environments.turns import AgentLimits, Played, Turns
from raylign.environment import Environment, Observation
from raylign.records import Prompt

COLOURED = re.compile(r"\x1b\[[0-9;]*m(.*?)\x1b\[0m", re.DOTALL)  # how text renderings mark the agent's cell
EXACT = 15  # decimals that tell two observations apart
SHOWN = 3  # decimals that the policy reads
SUCCESS = 1.0  # reward on the last action
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Shown(Enum):
    """What the policy reads of a state."""

    observation = "observation"  # the numbers that the environment returns
    ansi = "ansi"  # its own text rendering


class GymnasiumEnvironment(Environment):
    """Discrete actions are named by `names`, else by their numbers; in the format `letters` by a, b, c, ...

    A box action is its numbers, separated by commas or spaces, one action a turn; numbers outside the box are clipped
    and make the turn invalid. Flags: those of every text environment (see `raylign.actors.environments.turns`;
    ``effective``: the observation differs from the turn's first), ``terminated``, ``truncated``. ``success`` is the
    environment's own ``info["is_success"]`` or ``info["success"]`` where it says so, else termination with
    a reward of 1 or more on the last action.

    The snapshot is the pickled environment, or None where it does not pickle: then its actions are replayed.
    """

    @dataclass
    class Config(AgentLimits):
        """Which environment, its action names, and what is shown of its state."""

        id: str = ""  # as registered; "module:Name-v0" imports the module first
        kwargs: dict[str, Any] = field(default_factory=dict)  # for gymnasium.make
        names: list[str] = field(default_factory=list)  # of discrete actions, from the space's first
        rules: str = ""  # what the first message says before the state
        show: Shown = Shown.observation

        def __post_init__(self) -> None:
            super().__post_init__()
            if not self.id:
                raise ValueError("id is empty: name a registered gymnasium environment, e.g. id: FrozenLake-v1")

    def __init__(self, config: Config) -> None:
        """Raises ValueError when the environment is unknown, or its actions are neither discrete nor a box."""
        self.config = config
        self._gym = _gymnasium()
        kwargs = dict(config.kwargs)
        if config.show is Shown.ansi:
            kwargs["render_mode"] = "ansi"
        try:
            self._env = self._gym.make(config.id, disable_env_checker=True, **kwargs)
        except self._gym.error.Error as error:
            raise ValueError(f"id = {config.id}: gymnasium does not make it ({error}); check id and kwargs") from error
        space = self._env.action_space
        self._discrete = isinstance(space, self._gym.spaces.Discrete)
        if not self._discrete and not isinstance(space, self._gym.spaces.Box):
            raise ValueError(f"id = {config.id}: actions are {space}; only discrete and box actions can be written")
        self._names = self._action_names()
        self._seen: Any = None
        self._turns = Turns(config)

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        """See `Environment.reset`. ``meta["env_seed"]`` is the instance, ``meta["options"]`` goes to gymnasium.

        Raises ValueError when the meta names no instance.
        """
        instance = prompt.meta.get("env_seed")
        if isinstance(instance, bool) or not isinstance(instance, int):
            raise ValueError(f"{self.config.id}: the prompt's meta needs env_seed (an integer), not {instance!r}")
        self._seen, _ = self._env.reset(seed=instance, options=prompt.meta.get("options"))
        self._turns = Turns(self.config)
        text = self._view()
        self.reseed(seed)
        if self.config.format is AgentFormat.answer or self.config.rules:
            text = "\n".join(part for part in (self.config.rules, self._how(), text) if part)
        return Observation(messages=({"role": "user", "content": text},), flags={"domain": self.config.id})

    def step(self, action: str) -> Observation:
        """See `Environment.step`. Raises RuntimeError when the episode is over."""
        cap = self._turns.cap
        actions, dropped = self._discrete_actions(action, cap) if self._discrete else self._box_action(action)
        before, total, made, success = self._seen, 0.0, 0, False
        terminated = truncated = False
        for taken in actions:
            self._seen, reward, terminated, truncated, info = self._env.step(taken)
            total, made = total + float(reward), made + 1
            says = info.get("is_success", info.get("success"))
            success = bool(terminated and reward >= SUCCESS) if says is None else bool(says)
            if terminated or truncated:
                break
        played = Played(
            reward=total,
            actions=made,
            dropped=dropped,
            effective=_numbers(before, EXACT) != _numbers(self._seen, EXACT),
            success=success,
            over=terminated or truncated,
        )
        reward, flags = self._turns.end(played)
        messages = () if self._turns.done else ({"role": "user", "content": self._view()},)
        ends = {"terminated": bool(terminated), "truncated": bool(truncated)}
        return Observation(messages=messages, reward=reward, done=self._turns.done, flags={**flags, **ends})

    def snapshot(self) -> Any:
        """See `Environment.snapshot`."""
        try:
            return pickle.dumps((self._env, self._seen, self._turns.state()))
        except (pickle.PicklingError, TypeError, AttributeError):  # a handle to a simulator, a window, a lambda
            return None

    def restore(self, state: Any) -> None:
        """See `Environment.restore`."""
        self._env.close()
        self._env, self._seen, turns = pickle.loads(state)
        self._turns = Turns(self.config)
        self._turns.restore(turns)

    def reseed(self, seed: int) -> None:
        """See `Environment.reseed`."""
        self._env.unwrapped.np_random = np.random.default_rng(seed)

    def close(self) -> None:
        """See `Environment.close`."""
        self._env.close()

    def _action_names(self) -> list[str]:
        if not self._discrete:
            return []
        count, start = int(self._env.action_space.n), int(self._env.action_space.start)
        names = list(self.config.names) or [str(start + number) for number in range(count)]
        if len(names) != count or len({name.lower() for name in names}) != count:
            raise ValueError(f"names = {names}: {self.config.id} has {count} actions, each needs a name of its own")
        if self.config.format is AgentFormat.letters:
            if count > len(LETTERS):
                raise ValueError(
                    f"format = letters: {self.config.id} has {count} actions, more than letters; use answer"
                )
            return list(LETTERS[:count])
        return names

    def _discrete_actions(self, text: str, cap: int) -> tuple[list[int], int]:
        """Legal actions within the turn's cap, and how many words were none."""
        start = int(self._env.action_space.start)
        numbers = {name.lower(): start + index for index, name in enumerate(self._names)}
        words = words_of(text, self.config.format)[: self.config.actions_per_turn]
        actions = [numbers[word.lower()] for word in words if word.lower() in numbers]
        return actions[:cap], len(words) - len(actions)

    def _box_action(self, text: str) -> tuple[list[Any], int]:
        """One action of the box's shape, or none; 1 when it was unreadable or had to be clipped."""
        space = self._env.action_space
        answer = answer_of(text) if self.config.format is AgentFormat.answer else text
        try:
            numbers = [float(word) for word in (answer or "").replace(",", " ").split()]
        except ValueError:
            return [], 1
        if len(numbers) != int(np.prod(space.shape)) or not np.isfinite(numbers).all():
            return [], 1
        wanted = np.asarray(numbers, space.dtype).reshape(space.shape)
        inside = np.clip(wanted, space.low, space.high)
        return [inside], int(not np.array_equal(wanted, inside))

    def _view(self) -> str:
        if self.config.show is Shown.ansi:
            state = COLOURED.sub(r"[\1]", str(self._env.render())).strip("\n")
        else:
            state = _numbers(self._seen, SHOWN)
        return state if self.config.format is AgentFormat.letters else f"{state}\nActions left: {self._turns.left}."

    def _how(self) -> str:
        if self.config.format is AgentFormat.letters:
            return ""
        if self._discrete:
            return how_to_answer(self._names, self.config.actions_per_turn)
        space = self._env.action_space
        low, high = (_numbers(bound, SHOWN) for bound in (space.low, space.high))
        count = int(np.prod(space.shape))
        words = f"{count} number{'s, separated by commas,' if count > 1 else ''} from {low} to {high}"
        return how_to_answer((words,), 1, ", ".join(["0.0"] * count))


def _gymnasium() -> ModuleType:
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError("gymnasium is not installed; the fix: pip install gymnasium==1.4.0") from error
    return gymnasium


def _numbers(value: Any, decimals: int) -> str:
    """An observation as text: scalars, arrays, and mappings and tuples of them."""
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_numbers(part, decimals)}" for name, part in value.items())
    if isinstance(value, tuple):
        return ", ".join(_numbers(part, decimals) for part in value)
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    rounded = np.round(array.astype(np.float64), decimals) + 0.0 if array.dtype.kind == "f" else array
    return str(rounded.tolist())
