"""What the place of a part asks of its class: the arguments that it will be made with, and the methods that are called.

A class that obeys neither composes well and dies later in a process of its own: here it is refused by name.
"""

from __future__ import annotations

import inspect
from abc import ABCMeta
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from raylign.config.build import part_config
from raylign.errors import ConfigError, Problem


class Place(NamedTuple):
    """`arguments` follow the config by keyword; every name of `methods` must be there ("a|b": one of the two)."""

    what: str
    arguments: tuple[str, ...]
    methods: tuple[str, ...]


PLACES = {
    "data.generator": Place("a generator of rows", (), ("rows|pairs",)),
    "source": Place("a prompt source", ("prompts", "seed", "tokenizer"), ("next", "observe", "state_dict", "metrics")),
    "rollout.strategy": Place("a rollout strategy", ("environments",), ("run",)),
    "environment.fn": Place("an environment", (), ("reset", "step")),
    "fn": Place("a reward function", (), ("score", "gold", "wrong")),
    "shaper": Place("a reward shaper", ("weights", "max_tokens"), ("shape", "state_dict")),
    "selector": Place("a selector", ("seed",), ("select",)),
    "credit": Place("a credit", (), ("assign", "needs", "reads_scores")),
    "objective": Place("an objective", (), ("terms", "needs", "whole_groups")),
    "context": Place("a scorer's context", (), ("messages",)),
    "sweep.sampler": Place("a sampler of sweeps", ("space", "folder", "seed", "direction"), ("ask", "tell")),
    "sweep.launcher": Place("a launcher of sweeps", ("config_dir", "name"), ("start", "close")),
    "stages": Place("a stage", ("name",), ("run",)),
}


def place_of(key: str) -> Place:
    """The place that a key of the configuration stands for, e.g. ``stages.rl.credit`` -> that of a credit."""
    parent, _, last = key.rpartition(".")
    return PLACES["stages"] if parent == "stages" else PLACES.get(key) or PLACES[last]


def misfits(key: str, cls: type) -> list[Problem]:
    """Why objects of this class cannot do the work of the part at `key`."""
    place = place_of(key)
    absent = [names for names in place.methods if not any(hasattr(cls, name) for name in names.split("|"))]
    if absent:
        why = f"is not {place.what}: it has no {', '.join(absent).replace('|', ' or ')}"
    elif isinstance(cls, ABCMeta) and inspect.isabstract(cls):
        why = f"is only the base of {place.what}: it leaves open {', '.join(sorted(cls.__abstractmethods__))}"
    else:
        try:
            inspect.signature(cls).bind(None, **dict.fromkeys(place.arguments))
            return []
        except TypeError as cause:
            wanted = ", ".join(("config", *place.arguments))
            why = f"cannot be made as {place.what} is, by {cls.__name__}({wanted}): {cause}"
    fix = f"name {place.what}, or give the class what its place needs (raylign/contracts.py)"
    return [Problem(key=f"{key}._target_", value=f"{cls.__module__}.{cls.__qualname__}", why=why, fix=fix)]


def inner_problems(key: str, value: Any) -> Iterator[Problem]:
    """What is wrong with the parts within a part's settings, at every depth: their classes and their fields."""
    if isinstance(value, Mapping) and "_target_" in value:
        try:
            _, config = part_config(value, key)
        except ConfigError as error:
            yield from error.problems
            return
        yield from inner_problems(key, vars(config))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from inner_problems(f"{key}.{name}", item)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from inner_problems(f"{key}.{number}", item)
