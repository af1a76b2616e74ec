"""Settings of parts in one line: what always matters, and what differs from the defaults of its class."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Choices that other frameworks leave hidden: told whatever their value.
ALWAYS = (
    "std",
    "clip_low",
    "clip_high",
    "aggregation",
    "kl_estimator",
    "kl_coef",
    "old_logprob",
    "mismatch.mode",
    "gamma",
    "lam",
    "beta",
    "reference_margin",
)


def flat(prefix: str, fields: Mapping[str, object]) -> dict[str, object]:
    """Dotted key -> value, through sections and mappings."""
    values: dict[str, object] = {}
    for name, value in fields.items():
        key = f"{prefix}.{name}" if prefix else name
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            values |= flat(key, dataclasses.asdict(value))
        elif isinstance(value, Mapping) and value:
            values |= flat(key, value)
        else:
            values[key] = value
    return values


def fields_of(config: DataclassInstance) -> dict[str, object]:
    """Field -> value."""
    return {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}


def differing(config: DataclassInstance, always: Sequence[str] = (), without: Sequence[str] = ()) -> dict[str, object]:
    """Dotted key -> value of the fields that are not as their class has them, after those that are always told."""
    defaults, values = flat("", _defaults(config)), flat("", fields_of(config))
    for name, value in fields_of(config).items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type) and f"{name}" in defaults:  # null by default
            defaults |= flat(name, _defaults(value))
    told = {key: values[key] for key in always if key in values}
    others = {key: value for key, value in values.items() if key not in defaults or defaults[key] != value}
    left_out = tuple(f"{name}." for name in without)
    return told | {k: v for k, v in others.items() if k not in without and not k.startswith(left_out)}


def text(value: object) -> str:
    """A value as a person reads it."""
    if isinstance(value, enum.Enum):
        return str(value.name)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value not in ("", [], {}, None) else "-"


def listed(values: Mapping[str, object]) -> str:
    """``clip_low 0.2, aggregation token``; of a part only the name of its class."""
    parts = [key.removesuffix("._target_") for key in values if key.endswith("._target_")]
    outer = [key for key in parts if not any(key.startswith(f"{other}.") for other in parts)]
    words = []
    for key, value in values.items():
        if key.removesuffix("._target_") in outer:
            words.append(f"{key.removesuffix('._target_')} {str(value).rpartition('.')[2]}")
        elif not key.endswith("_target_"):
            words.append(f"{key} {text(value)}")
    return ", ".join(words)


def _defaults(config: DataclassInstance) -> dict[str, object]:
    known: dict[str, object] = {}
    for item in dataclasses.fields(config):
        if item.default is not dataclasses.MISSING:
            known[item.name] = item.default
        elif item.default_factory is not dataclasses.MISSING:
            known[item.name] = item.default_factory()
    return known
