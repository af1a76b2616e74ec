"""Every choice that other frameworks leave hidden, printed at start from the resolved Configs of the parts."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from raylign.config.parts import Part, part_nodes, roles_of, stages, streams_needed
from raylign.config.parts import is_rl as is_rl_stage
from raylign.config.schema import Config
from raylign.config.strict import part_fields
from raylign.telemetry.table import table

TRAINING_PARTS = ("shaper", "selector", "credit", "objective")


def choices(config: Config) -> dict[str, Any]:
    """Dotted key -> value of everything that changes the numbers of this run, defaults included.

    Raises ConfigError when a part cannot be resolved.
    """
    listed = stages(config)
    rl = any(is_rl_stage(stage) for stage in listed)
    shown: dict[str, Any] = {}
    for stage in listed:
        shown |= _flat(stage.key, _fields(stage))
    nodes = dict(part_nodes(config))
    keys: list[str] = []
    if any("rollout" in roles_of(stage) for stage in listed):
        shown |= _flat("rollout.sampling", dataclasses.asdict(config.rollout.sampling))
        keys.append("rollout.strategy")
    if rl:
        keys += [*TRAINING_PARTS, *(key for key in nodes if key.startswith("rewards."))]
        shown |= {f"rewards.{name}.weight": reward.weight for name, reward in config.rewards.items()}
    if rl and "value" in streams_needed(config):
        keys.append("critic.objective")
        shown |= _flat("critic.optim", dataclasses.asdict(config.critic.optim))
    for key in keys:
        node = nodes[key]
        shown[key] = str(node.get("_target_", "")).rsplit(".", 1)[-1]
        shown |= _flat(key, part_fields(node, key, config.run.allow_targets))
    if any("learner" in roles_of(stage) for stage in listed):
        shown |= _flat("learner.optim", dataclasses.asdict(config.learner.optim))
        shown["learner.share_prompts"] = config.learner.share_prompts
    shown["model.dtype"] = config.model.dtype
    return shown


def describe(config: Config) -> str:
    """The choices as an aligned table of two columns."""
    rows = [(key, _text(value)) for key, value in choices(config).items()]
    return table(["choice", "value"], rows)


def _fields(stage: Part) -> dict[str, Any]:
    return {item.name: getattr(stage.config, item.name) for item in dataclasses.fields(stage.config)}


def _flat(prefix: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            flat |= _flat(f"{prefix}.{name}", dataclasses.asdict(value))
        elif isinstance(value, Mapping) and value:
            flat |= _flat(f"{prefix}.{name}", value)
        else:
            flat[f"{prefix}.{name}"] = value
    return flat


def _text(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value not in ("", [], {}, None) else "-"
