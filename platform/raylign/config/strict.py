"""Strict check of a plain mapping against a dataclass schema: every unknown key and wrong type, not only the first."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raylign.config.build import OWN, target_class
from raylign.config.culprit import short
from raylign.config.numbers import field_faults
from raylign.config.type_names import type_name
from raylign.errors import ConfigError


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
    hints = typing.get_type_hints(schema)
    names = tuple(item.name for item in dataclasses.fields(schema))
    scratch = _scratch(schema)
    clean: dict[str, object] = {}
    faults: list[Fault] = []
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if name not in names:
            siblings = tuple(f"{prefix}{other}" for other in names)
            faults.append(Fault(key=key, value=short(value), why="is no setting", siblings=siblings))
            continue
        hint = hints[name]
        item = _mapping_item(hint)
        if dataclasses.is_dataclass(hint) or item is not None:
            if not isinstance(value, Mapping):
                faults.append(_wrong_type(key, value, "a mapping"))
            elif dataclasses.is_dataclass(hint):
                clean[name], below = check(typing.cast(type, hint), value, f"{key}.")
                faults += below
            else:
                clean[name], below = _check_items(item, value, key)
                faults += below or _wrong_numbers(schema, name, clean[name], prefix)
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
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint):
            yield from leaf_keys(typing.cast(type, hint), f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}"


def part_keys(tree: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Dotted keys of the settings of all parts in a tree whose class can be imported."""
    for name, value in tree.items():
        if not isinstance(value, Mapping):
            continue
        key = f"{prefix}{name}"
        if "_target_" in value:
            if not str(value["_target_"]).startswith(OWN):
                continue  # imported when it has been let through; here it only costs a suggestion
            try:
                cls = target_class(value, key)
            except ConfigError:
                continue  # reported where the run is resolved
            yield from (f"{key}.{item.name}" for item in dataclasses.fields(cls.Config))
        else:
            yield from part_keys(value, f"{key}.")


def nearest_keys(key: str, known: Sequence[str], siblings: Sequence[str] = ()) -> str:
    """A suggestion: the nearest key beside it, else keys of the same last name anywhere, else the nearest anywhere."""
    last = key.rsplit(".", 1)[-1]
    for names in (siblings, known):
        by_last = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
        if last in by_last:
            same = [name for name in names if name.rsplit(".", 1)[-1] == last]
            return f"did you mean {' or '.join(same[:3])}?"
        close = difflib.get_close_matches(last, list(by_last), n=1, cutoff=0.6)
        if close:
            return f"did you mean {by_last[close[0]]}?"
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.4)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(siblings or known) or 'none'}"


def nearest_option(name: str, known: Sequence[str]) -> str:
    """As `nearest_keys`, of a short list: all of it is told too, since what looks alike is rarely what was meant."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    every = f"known: {', '.join(known)}"
    return f"did you mean {close[0]}? ({every})" if close else every


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


def _mapping_item(hint: object) -> object:
    return typing.get_args(hint)[1] if typing.get_origin(hint) is dict else None


def _wrong_type(key: str, value: object, expected: str) -> Fault:
    why = f"has the wrong type {type(value).__name__}, expected {expected}"
    return Fault(key=key, value=short(value), why=why, fix=f"set {key} to {expected}")
