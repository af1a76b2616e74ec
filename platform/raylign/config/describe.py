"""Every choice that other frameworks leave hidden, printed at start from the resolved Configs of the parts."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING

from raylign.config.resolve import Run
from raylign.telemetry.table import table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TRAINING_PARTS = ("shaper", "selector", "advantage", "objective")


def choices(run: Run) -> dict[str, object]:
    """Dotted key -> value of everything that changes the numbers of this run, defaults included."""
    config, stages = run.config, run.stages
    rl = any(stage.batch for stage in stages)
    shown: dict[str, object] = {}
    for stage in stages:
        shown |= _flat(stage.key, _fields(stage.config))
    keys: list[str] = []
    if any("rollout" in stage.roles for stage in stages):
        shown |= _flat("rollout.sampling", dataclasses.asdict(config.rollout.sampling))
        keys.append("rollout.strategy")
    if rl:
        keys += [*TRAINING_PARTS, *(f"rewards.{name}.fn" for name in config.rewards)]
        shown |= {f"rewards.{name}.weight": reward.weight for name, reward in config.rewards.items()}
    if rl and "value" in run.streams():
        keys.append("critic.objective")
        shown |= _flat("critic.optim", dataclasses.asdict(config.critic.optim))
    for key in keys:
        part = run.parts[key]
        shown[key] = part.cls.__name__
        shown |= _flat(key, _fields(part.config))
    if any("learner" in stage.roles for stage in stages):
        shown |= _flat("learner.optim", dataclasses.asdict(config.learner.optim))
        shown["learner.share_prompts"] = config.learner.share_prompts
    shown["model.dtype"] = config.model.dtype
    return shown


def describe(run: Run) -> str:
    """The choices as an aligned table of two columns."""
    rows = [(key, _text(value)) for key, value in choices(run).items()]
    return table(["choice", "value"], rows)


def _fields(config: DataclassInstance) -> dict[str, object]:
    return {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}


def _flat(prefix: str, fields: Mapping[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in fields.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            flat |= _flat(f"{prefix}.{name}", dataclasses.asdict(value))
        elif isinstance(value, Mapping) and value:
            flat |= _flat(f"{prefix}.{name}", value)
        else:
            flat[f"{prefix}.{name}"] = value
    return flat


def _text(value: object) -> str:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value not in ("", [], {}, None) else "-"
