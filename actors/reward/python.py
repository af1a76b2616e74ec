"""Any Python function as a reward."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylign.contracts import RewardFunction, Scope
from raylign.records import Prompt, Trajectory, Value


class PythonFunction(RewardFunction):
    """Calls the function at `path`: ``(prompt, response, answer, **meta) -> float`` for each response.

    prompt: the last user message. response: the sampled text. answer: the gold answer, or None. meta: the prompt's
    other columns (only those that the function names, unless it takes ``**``), and `kwargs` of the configuration. With
    ``scope: GROUP`` the function gets ``responses``, a list, and returns a list of as many numbers.

    Whatever it raises, or a value that is no finite number, makes the reward missing with that reason.
    """

    @dataclass
    class Config:
        """Which function, and how it is called."""

        path: str = ""  # package.module.function
        isolated: bool = False  # in a killable child process
        scope: Scope = Scope.TRAJECTORY
        maximum: float = 1.0
        kwargs: dict[str, Any] = field(default_factory=dict)

        def __post_init__(self) -> None:
            if not self.path.rpartition(".")[0]:
                raise ValueError(f"path={self.path!r} must be package.module.function")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.isolated, self.scope, self.maximum = config.isolated, config.scope, config.maximum
        self._function = load_function(config.path)
        parameters = inspect.signature(self._function).parameters.values()
        self._takes_all = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters)
        self._names = {item.name for item in parameters}

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """The function's numbers. Raises what it raises, and TypeError for something that is no number."""
        texts = [trajectory.text for trajectory in trajectories]
        common = self._keywords(prompt)
        if self.scope is Scope.GROUP:
            numbers = self._function(_last_user(prompt), texts, prompt.answer, **common)
            if isinstance(numbers, str) or not isinstance(numbers, Sequence):
                raise TypeError(f"{self.config.path} returned {type(numbers).__name__}, expected a list of numbers")
        else:
            numbers = [self._function(_last_user(prompt), text, prompt.answer, **common) for text in texts]
        return [Value(score=self._number(number)) for number in numbers]

    def _keywords(self, prompt: Prompt) -> dict[str, Any]:
        own: Mapping[str, Any] = {**prompt.meta, **self.config.kwargs}
        taken = ("prompt", "response", "responses", "answer")
        return {
            name: value
            for name, value in own.items()
            if name not in taken and (self._takes_all or name in self._names or name in self.config.kwargs)
        }

    def _number(self, number: Any) -> float:
        try:
            return float(number)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{self.config.path} returned {number!r}, expected a number") from error


def load_function(path: str) -> Callable[..., Any]:
    """The function at an import path. Raises ImportError or TypeError that names it."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except AttributeError as error:
        raise ImportError(f"{path}: module {module} has no {name}") from error
    if not callable(found):
        raise TypeError(f"{path} is {type(found).__name__}, not a function")
    return found


def _last_user(prompt: Prompt) -> str:
    texts = [str(message["content"]) for message in prompt.messages if message["role"] == "user"]
    return texts[-1] if texts else ""
