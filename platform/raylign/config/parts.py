"""Where the parts of a configuration are, and what the stages among them need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from raylign.config.build import build, part_config, target_class
from raylign.config.schema import Config
from raylign.contracts import Credit
from raylign.errors import ConfigError

ROLES = frozenset({"rollout", "rewards", "learner"})


class Part(NamedTuple):
    """A resolved part: its place in the configuration, its class and its typed Config."""

    key: str
    cls: type
    config: Any


def part_nodes(config: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(dotted key, node) of every part."""
    if config.data.generator:
        yield "data.generator", config.data.generator
    yield "source", config.source
    yield "rollout.strategy", config.rollout.strategy
    if config.environment.fn:
        yield "environment.fn", config.environment.fn
    for name, reward in config.rewards.items():
        yield f"rewards.{name}.fn", reward.fn
    yield "shaper", config.shaper
    yield "selector", config.selector
    yield "credit", config.credit
    yield "objective", config.objective
    yield "critic.objective", config.critic.objective
    for name, scorer in config.scorers.items():
        if scorer.context:
            yield f"scorers.{name}.context", scorer.context
    yield "sweep.sampler", config.sweep.sampler
    yield "sweep.launcher", config.sweep.launcher
    for name, stage in config.stages.items():
        yield f"stages.{name}", stage
        yield from _inner_nodes(config, f"stages.{name}", stage)


def _inner_nodes(config: Config, key: str, stage: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The source, shaper, credit and objective that a stage brings, completed from the defaults of its class."""
    kinds = ("source", "shaper", "credit", "objective")
    given = [name for name in kinds if isinstance(stage, Mapping) and stage.get(name)]
    try:
        typed = part_config(stage, key, config.run.allow_targets)[1] if given else None
    except ConfigError:  # reported where the stage itself is checked
        return
    for name in given:
        yield f"{key}.{name}", getattr(typed, name)


def stages(config: Config) -> list[Part]:
    """The stages in the order in which they run. Raises ConfigError."""
    found = []
    for name, stage in config.stages.items():
        key = f"stages.{name}"
        found.append(Part(key, *part_config(stage, key, config.run.allow_targets)))
    return found


def is_rl(stage: Part) -> bool:
    """Whether a stage samples groups and trains on them: it then has `prompts_per_step` and `group_size`."""
    return hasattr(stage.config, "prompts_per_step") and hasattr(stage.config, "group_size")


def roles_of(stage: Part) -> frozenset[str]:
    """Which actors a stage talks to, a subset of rollout, rewards and learner.

    A stage class may say so by a class method ``roles(config) -> frozenset[str]``; without one it gets all.
    """
    roles = getattr(stage.cls, "roles", None)
    return frozenset(roles(stage.config)) if roles else ROLES


def streams_needed(config: Config) -> frozenset[str]:
    """Extra token streams that credit and objective read: ``value`` brings a critic, ``ref_logprob`` a reference."""
    allow, needed = config.run.allow_targets, frozenset[str]()
    for stage in stages(config):
        # A stage that is not RL has no credit, and an objective only of its own.
        shared = {"credit": config.credit, "objective": config.objective} if is_rl(stage) else {"objective": {}}
        for kind, common in shared.items():
            part = getattr(stage.config, kind, None) or common
            if part:
                needed |= frozenset(build(part, kind, allow).needs)
    return needed


def reads_scores(credit: Mapping[str, Any], allow: Sequence[str]) -> bool:
    """Whether a credit works on scores at all. Raises ConfigError; a class that is no credit is refused elsewhere."""
    cls = target_class(credit, "credit", allow)
    return not issubclass(cls, Credit) or cls.reads_scores
