"""Strict check of a plain mapping against a dataclass schema: every unknown key and wrong type, not only the first."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raylign.config.culprit import short
from raylign.config.numbers import field_faults
from raylign.config.schema.base import CONTRACT
from raylign.config.type_names import type_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with one key; `siblings` are the keys that exist beside it."""

    key: str
    value: str
    why: str
    fix: str = ""
    siblings: tuple[str, ...] = ()


def check(schema: type, tree: Mapping[str, object], prefix: str = "") -> tuple[dict[str, object], list[Fault]]:
    """The part of `tree` that fits the schema, and what does not fit."""
    hints = _hints(schema)
    names = tuple(item.name for item in dataclasses.fields(schema))
    scratch = _scratch(schema)
    clean: dict[str, object] = {}
    faults: list[Fault] = []
    for name, given in tree.items():
        key, value = f"{prefix}{name}", given
        if name not in names:
            siblings = tuple(f"{prefix}{other}" for other in names)
            faults.append(Fault(key=key, value=short(value), why="is no setting", siblings=siblings))
            continue
        if value is None and _may_hold_none(schema, name):
            value = {}
        hint = _section(hints[name], value)
        item = _mapping_item(hint)
        if dataclasses.is_dataclass(hint) or item is not None:
            if not isinstance(value, Mapping):
                faults.append(_wrong_type(key, value, "a mapping"))
            elif dataclasses.is_dataclass(hint):
                clean[name], below = check(typing.cast(type, hint), value, f"{key}.")
                faults += below
            else:
                clean[name], below = _check_items(item, value, key)
                if not below and not _holds_parts(schema, name):
                    below = _wrong_numbers(schema, name, clean[name], prefix)
                faults += below
            continue
        try:
            scratch[name] = value
        except (OmegaConfBaseException, ValueError):
            faults.append(_wrong_type(key, value, type_name(hint)))
            continue
        if hint is not str and (wrong := _wrong_numbers(schema, name, scratch[name], prefix)):
            faults += wrong
        else:
            clean[name] = value
    return clean, faults


def leaf_keys(schema: type, prefix: str = "") -> Iterator[str]:
    """Dotted keys of all settings of a schema."""
    hints = _hints(schema)
    for item in dataclasses.fields(schema):
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint):
            yield from leaf_keys(typing.cast(type, hint), f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}"


@functools.cache
def _hints(schema: type) -> dict[str, object]:
    """The types of its fields."""
    return typing.get_type_hints(schema)


@functools.cache
def _scratch(schema: type) -> DictConfig:
    """A node to try values on: OmegaConf's own conversion decides what fits."""
    node: DictConfig = OmegaConf.structured(schema)
    return node


def _check_items(item: object, value: Mapping[str, object], key: str) -> tuple[dict[str, object], list[Fault]]:
    if not dataclasses.is_dataclass(item):
        return dict(value), []
    clean: dict[str, object] = {}
    faults: list[Fault] = []
    for name, entry in value.items():
        if isinstance(entry, Mapping):
            clean[name], below = check(typing.cast(type, item), entry, f"{key}.{name}.")
            faults += below
        else:
            faults.append(_wrong_type(f"{key}.{name}", entry, "a mapping"))
    return clean, faults


def _wrong_numbers(schema: type, name: str, value: object, prefix: str) -> list[Fault]:
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    faults = field_faults(schema, name, plain, prefix)
    return [Fault(key=path, value=short(number), why=why, fix=fix) for path, number, why, fix in faults]


def _holds_parts(schema: type, name: str) -> bool:
    """Whether a field holds parts, whose classes say what their numbers may be."""
    return any(item.name == name and CONTRACT in item.metadata for item in dataclasses.fields(schema))


def _may_hold_none(schema: type, name: str) -> bool:
    """Whether a field holds a part, or parts by name, and none where nothing is said."""
    item = next(item for item in dataclasses.fields(schema) if item.name == name)
    factory = item.default_factory
    return _holds_parts(schema, name) and factory is not dataclasses.MISSING and factory() == {}


def _section(hint: object, value: object) -> object:
    """The dataclass of a section that may be null, where something is given for it; else the type as it is."""
    if typing.get_origin(hint) not in (types.UnionType, typing.Union) or not isinstance(value, Mapping):
        return hint
    return next((member for member in typing.get_args(hint) if dataclasses.is_dataclass(member)), hint)


def _mapping_item(hint: object) -> object:
    return typing.get_args(hint)[1] if typing.get_origin(hint) is dict else None


def _wrong_type(key: str, value: object, expected: str) -> Fault:
    why = f"has the wrong type {type(value).__name__}, expected {expected}"
    return Fault(key=key, value=short(value), why=why, fix=f"set {key} to {expected}")
