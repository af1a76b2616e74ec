"""Make a part from its node: `_target_` names a class, the other keys fill its nested ``Config`` dataclass.

Which packages a ``_target_`` may name is checked where a run is composed (`raylign.config.resolve`), for parts within
parts too: what reaches `build` in any process of the run has been let through there.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raylign.config.culprit import culprit, short, within
from raylign.config.numbers import number_faults
from raylign.config.type_names import expected_at
from raylign.contracts import Part
from raylign.errors import ConfigError, Problem

P = TypeVar("P", bound=Part)
OWN = "raylign."  # packages that every run may name


def target_class(node: Mapping[str, object], key: str) -> type[Part]:
    """The class that a node names. Raises ConfigError when it is absent, cannot be imported or is no part."""
    path = target_of(node, key)
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as cause:
        raise error(f"{key}._target_", path, f"cannot be imported ({cause})", "check the spelling") from cause
    if not isinstance(cls, type) or not dataclasses.is_dataclass(vars(cls).get("Config") or _inherited(cls)):
        raise error(f"{key}._target_", path, "is no part: a class with a nested Config dataclass", "name such a class")
    return cls


def target_of(node: Mapping[str, object], key: str) -> str:
    """The import path that a node names. Raises ConfigError when there is none."""
    path = str(node.get("_target_", ""))
    if "." not in path:
        raise error(key, path or "absent", "a part needs a _target_", f"set {key}._target_=package.module.Class")
    return path


def part_config(node: Mapping[str, object], key: str) -> tuple[type[Part], Any]:
    """The class of a part and its typed Config, filled from the node. Unknown or ill-typed keys raise ConfigError."""
    cls = target_class(node, key)
    fields = {name: value for name, value in _plain(node).items() if name != "_target_"}
    known = [item.name for item in dataclasses.fields(cls.Config)]
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise ConfigError([_unknown(f"{key}.{name}", fields[name], name, known) for name in unknown])
    schema, plain = _schema(cls.Config), fields
    try:
        typed = OmegaConf.merge(schema, fields)
        plain = OmegaConf.to_container(typed)  # type: ignore[assignment]
        if faults := list(number_faults(cls.Config, plain, f"{key}.")):
            raise ConfigError(
                [Problem(key=at, value=short(number), why=why, fix=fix) for at, number, why, fix in faults]
            )
        return cls, OmegaConf.to_object(typed)
    except OmegaConfBaseException as cause:
        name = str(cause.full_key or "")
        where, given = f"{key}.{name}" if name else key, within(fields, name)
        expected = expected_at(cls.Config, name)
        why = f"has the wrong type {type(given).__name__}, expected {expected}" if expected else _first_line(cause)
        raise error(where, short(given), why, f"set {where} to {expected or 'what it asks for'}") from cause
    except ValueError as cause:  # a Config's own __post_init__
        name, value = culprit(str(cause), plain, OmegaConf.to_container(schema))  # type: ignore[arg-type]
        raise error(f"{key}.{name}" if name else key, value, str(cause), "correct the value") from cause


def build(base: type[P], node: Mapping[str, object], key: str, **made_with: object) -> P:
    """Make the part, which must be a `base`; `made_with` is passed on to its constructor after the config."""
    cls, config = part_config(node, key)
    if not issubclass(cls, base):
        raise error(f"{key}._target_", str(node["_target_"]), f"is not {base.what}", f"derive it from {named(base)}")
    return cls(config, **made_with)


def _first_line(cause: Exception) -> str:
    return str(cause).splitlines()[0]


def named(cls: type) -> str:
    """The import path by which a user would name a class."""
    module = "raylign.contracts" if cls.__module__.startswith("raylign.contracts.") else cls.__module__
    return f"{module}.{cls.__qualname__}"


def nearest(name: str, known: Sequence[str]) -> str:
    """The known name that looks most like this one, as the second half of a sentence."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def error(key: str, value: str, why: str, fix: str) -> ConfigError:
    """One problem as an exception."""
    return ConfigError([Problem(key=key, value=value, why=why, fix=fix)])


def _inherited(cls: type) -> object:
    return next((vars(base)["Config"] for base in cls.__mro__ if "Config" in vars(base)), None)


@functools.cache
def _schema(config: type) -> object:
    """The typed node of a Config; a merge copies it."""
    return OmegaConf.structured(config)


def _plain(node: Mapping[str, object]) -> dict[str, object]:
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    return dict(node)


def _unknown(key: str, value: object, name: str, known: Sequence[str]) -> Problem:
    return Problem(key=key, value=str(value), why="is no setting of this part", fix=nearest(name, known))
