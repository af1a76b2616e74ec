"""The merged layers as a typed `Config`; every key and value that fits no field is reported with its layer."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raylign.config.build import part_keys
from raylign.config.culprit import short, within
from raylign.config.emptied import leaves
from raylign.config.layers import COMMAND_LINE, Layers
from raylign.config.nearest import nearest_keys
from raylign.config.other_names import OWN as OWN_NAMES
from raylign.config.other_names import hint
from raylign.config.schema import Config
from raylign.config.schema.base import CONTRACT
from raylign.config.strict import Fault, check, leaf_keys
from raylign.errors import Problem

MISSING = "???"  # as OmegaConf writes it


def to_config(
    tree: dict[str, object], layers: Layers, groups: set[str], problems: list[Problem]
) -> tuple[Config | None, dict[str, object]]:
    """The typed config and its plain form; appends to `problems`."""
    unset = [key for key, value in leaves(tree) if value == MISSING or (isinstance(value, list) and MISSING in value)]
    if unset:
        why, fix = "stands for a value that is still to be given", "give it one, or leave it out"
        problems += [Problem(key=key, value=MISSING, why=why, fix=fix) for key in unset]
        return None, tree
    clean, faults = check(Config, tree)
    known = _Known.of(tree, groups) if faults else _Known([], [], [])
    for fault in faults:
        for key, value in _each(fault, tree):
            origin = layers.origin(fault.key)
            where = "" if origin in ("", COMMAND_LINE) else f" (set in {origin})"
            problems.append(Problem(key=key, value=value, why=fault.why + where, fix=known.fix(key, fault)))
    parts = {name: node for name, node in clean.items() if name in _parts() and all(map(_is_text, _mapping(node)))}
    rest = {name: value for name, value in clean.items() if name not in parts}
    try:
        config = OmegaConf.to_object(OmegaConf.merge(_structured(), _literal(rest)))
    except (OmegaConfBaseException, ValueError) as cause:
        problems.append(Problem(key="configuration", value="", why=str(cause).splitlines()[0], fix="correct the value"))
        return None, clean
    assert isinstance(config, Config)
    for name, node in parts.items():
        setattr(config, name, copy.deepcopy(node))
    return config, clean


class _Known(NamedTuple):
    """The keys that there are."""

    settings: list[str]  # of the schema, and of every part one level deep
    all: list[str]  # at every depth
    groups: list[str]

    @classmethod
    def of(cls, tree: Mapping[str, object], groups: set[str]) -> _Known:
        """Those of a tree."""
        listed, parts = list(leaf_keys(Config)), list(part_keys(tree))
        shallow = [key for key, deep in parts if not deep]
        sections = [f"stages.{name}" for name in _mapping(tree.get("stages"))]
        return cls([*listed, *shallow], [*listed, *(key for key, _ in parts), *sections, *groups], sorted(groups))

    def fix(self, key: str, fault: Fault) -> str:
        """What to do about a key that is not there, or is of the wrong type."""
        if not fault.siblings and key not in OWN_NAMES:
            return fault.fix
        beside = fault.siblings if "." in key else tuple(dict.fromkeys([*fault.siblings, *self.groups]))
        return hint(key, self.all) or nearest_keys(key, self.settings, beside)


def _each(fault: Fault, tree: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """(key, value) of a fault; of a section that is not known, each of its settings."""
    value = within(tree, fault.key)
    if fault.siblings and isinstance(value, Mapping) and value:
        yield from ((key, short(leaf)) for key, leaf in leaves(value, f"{fault.key}."))
    else:
        yield fault.key, fault.value


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _is_text(key: object) -> bool:
    return isinstance(key, str)


def _literal(value: object) -> object:
    """A resolved tree with every ``${`` escaped, so that it is not interpolated again."""
    if isinstance(value, Mapping):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return re.sub(r"(\\*)\$\{", lambda hit: hit[1] * 2 + "\\${", value) if isinstance(value, str) else value


@functools.cache
def _parts() -> frozenset[str]:
    """Names of the nodes that say how parts are made: plain mappings, which each part checks and types by itself."""
    return frozenset(item.name for item in dataclasses.fields(Config) if CONTRACT in item.metadata)


@functools.cache
def _structured() -> object:
    """The typed node of all settings; a merge copies it."""
    return OmegaConf.structured(Config)
