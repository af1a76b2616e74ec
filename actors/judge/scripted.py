"""A chat model that is a Python function: rules where rules will do, and experiments without a second model."""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raylign.actors.judge.chat import ChatModel, Reply
from raylign.config.build import OWN
from raylign.contracts import Sampling
from raylign.records import Message, content_id


class Scripted(ChatModel):
    """Calls ``function(messages, sampling, seed, **settings) -> str``, which may be a coroutine function.

    What the function raises reaches the caller as it is: a JudgeUnavailable counts as one.
    """

    @dataclass
    class Config:
        """Which function, by its import path, and its further arguments."""

        function: str = ""
        settings: dict[str, Any] = field(default_factory=dict)

        def __post_init__(self) -> None:
            if not self.function.startswith(OWN):
                raise ValueError(f"function={self.function!r} must be the path of a function within {OWN}*")

    def __init__(self, config: Config) -> None:
        module, _, name = config.function.rpartition(".")
        self._function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        self._settings = dict(config.settings)
        self._name = f"{config.function}{sorted(self._settings.items())}{_code(self._function)}"

    @classmethod
    def of(cls, function: Callable[..., Any], **settings: Any) -> Scripted:
        """A model that calls this very function."""
        model = cls.__new__(cls)
        model._function, model._settings = function, settings
        model._name = f"{function.__module__}.{function.__qualname__}{sorted(settings.items())}{_code(function)}"
        return model

    @property
    def name(self) -> str:
        """The function's path, its settings, and the code of its module: kept replies end with a change of it."""
        return self._name

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Reply:
        """What the function returns."""
        started = time.perf_counter()
        answer = self._function(messages, sampling, seed, **self._settings)
        text = str(await answer if inspect.isawaitable(answer) else answer)
        return Reply(text=text, tokens=0, seconds=time.perf_counter() - started)

    async def close(self) -> None:
        """Nothing is held."""


def _code(function: Callable[..., Any]) -> str:
    """A hash of the file that defines a function; empty without a file."""
    file = inspect.getsourcefile(inspect.unwrap(function))
    return f" {content_id(Path(file).read_text())}" if file and Path(file).is_file() else ""


def echo(messages: Sequence[Message], sampling: Sampling, seed: int) -> str:
    """The last message; for trying out everything but the model."""
    return str(messages[-1]["content"])


def say(messages: Sequence[Message], sampling: Sampling, seed: int, text: str = "") -> str:
    """The same reply to whatever is asked."""
    return text
