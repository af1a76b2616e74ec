"""What a part asks of the model that it holds, checked before work starts."""

from __future__ import annotations

from raylign.actors.judge.chat import ChatModel
from raylign.config.resolve import Run
from raylign.config.schema import Verb
from raylign.errors import Problem


def verb_problems(key: str, verb: Verb, run: Run) -> list[Problem]:
    """Why the model at `key` (of a part's own settings, e.g. ``rewards.nll.fn.model``) cannot do this.

    What is wrong with the model itself is told by itself.
    """
    part = run.parts.get(key)
    if part is None or not issubclass(part.cls, ChatModel):
        return []
    return part.cls.lacks(key, part.config, verb, run)
