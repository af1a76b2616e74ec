"""Any Python function as a reward."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylign.actors.reward.returned import listed, valued
from raylign.actors.reward.signature import call, signature_of
from raylign.config.build import NotImportable, importable
from raylign.config.resolve import Run, foreign_problems
from raylign.contracts import RewardFunction, Scope
from raylign.errors import Problem
from raylign.records import Prompt, Trajectory, Value


class PythonFunction(RewardFunction):
    """Calls the function at `path`: ``(prompt, response, answer, **meta) -> float`` for each response.

    prompt: the last user message. response: the sampled text. answer: the gold answer, or None. meta: the prompt's
    other columns (only those that the function names, unless it takes ``**``), and `kwargs` of the configuration. With
    ``scope: GROUP`` the function gets ``responses``, a list, and returns as many numbers.

    Functions written for others work as they are, known by the names of their parameters (see `signature`):

    - verl: ``compute_score(data_source, solution_str, ground_truth, extra_info)``. data_source is the prompt's domain,
      extra_info the column of that name, else all other columns.
    - TRL: ``reward(prompts, completions, **columns)``, lists in and out; with ``scope: GROUP`` all samples of a prompt
      in one call, else lists of one. Prompts and completions are texts, or messages with `conversational`.

    The function may be ``async``, an object with ``__call__``, or a class that makes one (its ``__init__`` takes those
    of `kwargs` that it names). It returns a number or a bool; a list, array or tensor for lists; a dict with ``score``,
    whose other keys become details; or None where the reward does not apply to a response, which is neither 0 nor a
    failure. Whatever it raises, or a value that is no finite number, makes the reward missing with that reason.
    """

    @dataclass
    class Config:
        """Which function, and how it is called."""

        path: str = ""  # package.module.function, in raylign or a package of run.allow_targets
        isolated: bool = False  # in a killable child process
        scope: Scope = Scope.TRAJECTORY
        maximum: float = 1.0
        kwargs: dict[str, Any] = field(default_factory=dict)
        conversational: bool = False  # TRL: prompts and completions are lists of messages, not texts

        def __post_init__(self) -> None:
            if not self.path.rpartition(".")[0]:
                raise ValueError(f"path={self.path!r} must be package.module.function")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The function must come from a package that the run may name, and be there."""
        if foreign := foreign_problems(f"{key}.path", config.path, run.config):
            return foreign
        try:
            function = importable(config.path)
        except NotImportable as cause:
            return [Problem(key=f"{key}.path", value=config.path, why=cause.why, fix=cause.fix)]
        why, fix = f"is {type(function).__name__}, not a function", "name a function, or a class that makes one"
        return [] if callable(function) else [Problem(key=f"{key}.path", value=config.path, why=why, fix=fix)]

    def __init__(self, config: Config) -> None:
        self.config = config
        self.isolated, self.scope, self.maximum = config.isolated, config.scope, config.maximum
        self._function, self._kwargs = load_function(config.path), dict(config.kwargs)
        if isinstance(self._function, type):
            self._function = self._made(self._function)
        self._events: asyncio.AbstractEventLoop | None = None
        group = self.scope is Scope.GROUP
        self._signature = signature_of(self._function, config.path, self._kwargs, group)

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value | None]:
        """The function's values. Raises what it raises, and TypeError or ValueError for what is no score."""
        path = self.config.path
        if self._signature.lists:
            entries = listed(self._call(prompt, trajectories), len(trajectories), path)
        else:
            entries = [self._call(prompt, [trajectory]) for trajectory in trajectories]
        return [valued(entry, path) for entry in entries]

    def _call(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> Any:
        returned = call(
            self._function, self._signature, (prompt, trajectories), self._kwargs, self.config.conversational
        )
        if not inspect.isawaitable(returned):
            return returned
        if self._events is None:  # not before: a loop must not be forked
            self._events = asyncio.new_event_loop()
        return self._events.run_until_complete(_awaited(returned))

    def _made(self, cls: type) -> Callable[..., Any]:
        """An object of a class, which takes what it names of `kwargs`; the calls get the rest."""
        if not any("__call__" in vars(base) for base in cls.__mro__):
            raise TypeError(f"{self.config.path} is a class whose objects cannot be called")
        named = set(inspect.signature(cls).parameters)
        own = {name: self._kwargs.pop(name) for name in list(self._kwargs) if name in named}
        made: Callable[..., Any] = cls(**own)
        return made


def load_function(path: str) -> Callable[..., Any]:
    """The function at an import path. Raises ImportError or TypeError that names it."""
    module, _, name = path.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except AttributeError as error:
        raise ImportError(f"{path}: module {module} has no {name}") from error
    if not callable(function):
        raise TypeError(f"{path} is {type(function).__name__}, not a function")
    return function


async def _awaited(returned: Any) -> Any:
    return await returned
