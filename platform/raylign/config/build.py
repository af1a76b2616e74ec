"""Make a part from its node: `_target_` names a class, the other keys fill its nested ``Config`` dataclass.

Which packages a ``_target_`` may name besides raylign's own is the run's setting, `run.allow_targets`. Who makes a part
of the configuration says so (`allow`), and it holds for the parts within that part too, also for those that a method
makes later: a process works for one run, and the list that was given last stands in it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raylign.config.culprit import culprit, short, within
from raylign.config.numbers import number_faults
from raylign.errors import ConfigError, Problem

ALLOWED = ("raylign.",)
_granted: list[str] = []


def allowed(allow: Sequence[str] | None = None) -> tuple[str, ...]:
    """Module prefixes that may be named, raylign's first. allow: those of the run; None: as it was said last."""
    if allow is not None:
        _granted[:] = allow
    return (*ALLOWED, *_granted)


def target_class(node: Mapping[str, Any], key: str, allow: Sequence[str] | None = None) -> type:
    """The class that a node names. Raises ConfigError when it is absent, not allowed or cannot be imported."""
    path = str(node.get("_target_", ""))
    module, _, name = path.rpartition(".")
    if not module:
        raise _error(key, path or "absent", "a part needs a _target_", f"set {key}._target_=package.module.Class")
    if not path.startswith(allowed(allow)):
        fix = f"add its package to run.allow_targets, e.g. run.allow_targets=[{path.split('.')[0]}.]"
        raise _error(f"{key}._target_", path, "is outside the packages that may be run", fix)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as cause:
        raise _error(f"{key}._target_", path, f"cannot be imported ({cause})", "check the spelling") from cause
    if not isinstance(found, type) or not dataclasses.is_dataclass(getattr(found, "Config", None)):
        raise _error(f"{key}._target_", path, "is no part: a class with a nested Config dataclass", "name such a class")
    return found


def part_config(node: Mapping[str, Any], key: str, allow: Sequence[str] | None = None) -> tuple[type, Any]:
    """The class of a part and its typed Config, filled from the node. Unknown or ill-typed keys raise ConfigError."""
    cls = target_class(node, key, allow)
    fields = {name: value for name, value in _plain(node).items() if name != "_target_"}
    known = [item.name for item in dataclasses.fields(cls.Config)]  # type: ignore[attr-defined]
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise ConfigError([_unknown(f"{key}.{name}", fields[name], name, known) for name in unknown])
    schema, plain = _schema(cls.Config), fields  # type: ignore[attr-defined]
    try:
        typed = OmegaConf.merge(schema, fields)
        plain = OmegaConf.to_container(typed)  # type: ignore[assignment]
        if faults := list(number_faults(cls.Config, plain, f"{key}.")):  # type: ignore[attr-defined]
            raise ConfigError(
                [Problem(key=at, value=short(number), why=why, fix=fix) for at, number, why, fix in faults]
            )
        return cls, OmegaConf.to_object(typed)
    except OmegaConfBaseException as cause:
        name = str(getattr(cause, "full_key", None) or "")
        where, value = f"{key}.{name}" if name else key, short(within(fields, name))
        raise _error(where, value, str(cause).splitlines()[0], "correct the value") from cause
    except ValueError as cause:  # a Config's own __post_init__
        name, value = culprit(str(cause), plain, OmegaConf.to_container(schema))  # type: ignore[arg-type]
        raise _error(f"{key}.{name}" if name else key, value, str(cause), "correct the value") from cause


def build(node: Mapping[str, Any], key: str, allow: Sequence[str] | None = None, **context: Any) -> Any:
    """Make the part; `context` is passed on to its constructor after the config. allow: None for a part of a part."""
    cls, config = part_config(node, key, allow)
    return cls(config, **context)


def nearest(name: str, known: Sequence[str]) -> str:
    """The known name that looks most like this one, as the second half of a sentence."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


@functools.cache
def _schema(config: type) -> Any:
    """The typed node of a Config; a merge copies it."""
    return OmegaConf.structured(config)


def _plain(node: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    return dict(node)


def _unknown(key: str, value: Any, name: str, known: Sequence[str]) -> Problem:
    return Problem(key=key, value=str(value), why="is no setting of this part", fix=nearest(name, known))


def _error(key: str, value: str, why: str, fix: str) -> ConfigError:
    return ConfigError([Problem(key=key, value=value, why=why, fix=fix)])
