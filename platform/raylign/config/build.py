"""Make a part from its node: `_target_` names a class, the other keys fill its nested ``Config`` dataclass.

Which packages a ``_target_`` may name is checked where a run is composed (`raylign.config.resolve`), for parts within
parts too: what reaches `build` in any process of the run has been let through there.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raylign.config.culprit import culprit, short
from raylign.config.nearest import nearest
from raylign.config.other_names import hint
from raylign.config.schema.base import CONTRACT
from raylign.config.strict import Fault, check, leaf_keys
from raylign.contracts import Part
from raylign.errors import ConfigError, Problem

P = TypeVar("P", bound=Part)
OWN = "raylign."  # packages that every run may name


def target_class(node: Mapping[str, object], key: str) -> type[Part]:
    """The class that a node names. Raises ConfigError when it is absent, cannot be imported or is no part."""
    path = target_of(node, key)
    try:
        cls = importable(path)
    except NotImportable as cause:
        raise error(f"{key}._target_", path, cause.why, cause.fix) from cause
    if not isinstance(cls, type) or not dataclasses.is_dataclass(vars(cls).get("Config") or _inherited(cls)):
        raise error(f"{key}._target_", path, "is no part: a class with a nested Config dataclass", "name such a class")
    return cls


class NotImportable(Exception):
    """Why an import path names nothing, and what to do."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.why, self.fix = why, fix


def importable(path: str) -> Any:
    """What an import path names. Raises NotImportable."""
    module, _, name = path.rpartition(".")
    loaded: Any = None
    try:
        loaded = importlib.import_module(module)
        return getattr(loaded, name)
    except ModuleNotFoundError as cause:
        top = path.split(".", maxsplit=1)[0]
        fix = "check the spelling"
        if cause.name == top and not path.startswith(OWN):
            fix = f"put {top}.py, or a folder {top}, into {os.path.abspath(os.curdir)}, or its folder on PYTHONPATH"
        elif cause.name and not module.startswith(cause.name):
            fix = f"install {cause.name.split('.')[0]}, which {module} imports"
        raise NotImportable(f"cannot be imported ({cause})", fix) from cause
    except AttributeError as cause:
        if loaded is None or cause.obj is not loaded:  # within what is imported
            raise _broken(module, cause) from cause
        names = [other for other in vars(loaded) if not other.startswith("_")]
        raise NotImportable(f"cannot be imported (module {module} has no {name})", nearest(name, names)) from cause
    except Exception as cause:
        raise _broken(module, cause) from cause


def _broken(module: str, cause: Exception) -> NotImportable:
    text = " ".join(str(cause).split())
    return NotImportable(f"cannot be imported ({type(cause).__name__}: {text}{_place(cause)})", f"correct {module}")


def _place(cause: BaseException) -> str:
    """The innermost place in a file at which an import went wrong."""
    if isinstance(cause, SyntaxError):
        return ""  # says so itself
    frame = traceback.extract_tb(cause.__traceback__)[-1]
    return f" at {frame.filename}:{frame.lineno}"


def target_of(node: Mapping[str, object], key: str) -> str:
    """The import path that a node names. Raises ConfigError when there is none."""
    path = str(node.get("_target_", ""))
    if "." not in path:
        raise error(key, path or "absent", "a part needs a _target_", f"set {key}._target_=package.module.Class")
    return path


def part_config(node: Mapping[str, object], key: str) -> tuple[type[Part], Any]:
    """The class of a part and its typed Config, filled from the node.

    Raises ConfigError with every unknown or ill-typed key, or else with what the Config itself refuses.
    """
    cls = target_class(node, key)
    fields = {name: value for name, value in _plain(node).items() if name != "_target_"}
    clean, faults = check(cls.Config, fields, f"{key}.")
    if faults:
        section, _, name = key.rpartition(".")
        known = [leaf for leaf, _ in part_keys({name: node}, f"{section}." if section else "")]
        raise ConfigError([_problem(fault, known) for fault in faults])
    schema = _schema(cls.Config)
    for name in _replaced(cls.Config, clean):
        schema = copy.deepcopy(schema)
        OmegaConf.update(schema, name, {}, merge=False)
    try:
        return cls, OmegaConf.to_object(OmegaConf.merge(schema, clean) if clean else schema)
    except OmegaConfBaseException as cause:
        where = f"{key}.{cause.full_key}" if cause.full_key else key
        raise error(where, short(fields), str(cause).splitlines()[0], "correct the value") from cause
    except ValueError as cause:  # a Config's own __post_init__
        plain = OmegaConf.to_container(OmegaConf.merge(schema, clean))
        name, value = culprit(str(cause), plain, OmegaConf.to_container(_schema(cls.Config)))  # type: ignore[arg-type]
        raise error(f"{key}.{name}" if name else key, value, str(cause), "correct the value") from cause


def part_keys(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted keys of the settings of all parts in a tree whose class can be imported, and whether they lie deeper than
    the part's own fields.
    """
    for name, value in tree.items():
        if not isinstance(value, Mapping):
            continue
        key = f"{prefix}{name}"
        if "_target_" not in value:
            yield from part_keys(value, f"{key}.")
            continue
        if not str(value["_target_"]).startswith(OWN):
            continue  # imported when it has been let through; here it only costs a suggestion
        try:
            cls = target_class(value, key)
        except ConfigError:
            continue  # reported where the run is resolved
        own = {item.name: item for item in dataclasses.fields(cls.Config)}
        yield from ((f"{key}.{field}", False) for field in own)
        yield from ((leaf, True) for leaf in leaf_keys(cls.Config, f"{key}.") if leaf.count(".") > key.count(".") + 1)
        for field, item in own.items():
            if CONTRACT in item.metadata and item.default_factory is not dataclasses.MISSING:
                inner = {**_mapping(item.default_factory()), **_mapping(value.get(field))}
                yield from ((leaf, True) for leaf, _ in part_keys({field: inner}, f"{key}."))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def build(base: type[P], node: Mapping[str, object], key: str, **made_with: object) -> P:
    """Make the part, which must be a `base`; `made_with` is passed on to its constructor after the config."""
    cls, config = part_config(node, key)
    if not issubclass(cls, base):
        raise error(f"{key}._target_", str(node["_target_"]), f"is not {base.what}", f"derive it from {named(base)}")
    return cls(config, **made_with)


def named(cls: type) -> str:
    """The import path by which a user would name a class."""
    module = "raylign.contracts" if cls.__module__.startswith("raylign.contracts.") else cls.__module__
    return f"{module}.{cls.__qualname__}"


def error(key: str, value: str, why: str, fix: str) -> ConfigError:
    """One problem as an exception."""
    return ConfigError([Problem(key=key, value=value, why=why, fix=fix)])


def _inherited(cls: type) -> object:
    return next((vars(base)["Config"] for base in cls.__mro__ if "Config" in vars(base)), None)


@functools.cache
def _schema(config: type) -> DictConfig:
    """The typed node of a Config; a merge copies it."""
    schema: DictConfig = OmegaConf.structured(config)
    return schema


def _replaced(config: type, given: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Dotted fields of a Config that hold entries by default and are given others, beside which these do not stay."""
    for item in dataclasses.fields(config):
        value, factory = given.get(item.name), item.default_factory
        if not isinstance(value, Mapping) or CONTRACT in item.metadata or factory is dataclasses.MISSING:
            continue
        if dataclasses.is_dataclass(default := factory()):
            yield from _replaced(type(default), value, f"{prefix}{item.name}.")
        elif default:
            yield f"{prefix}{item.name}"


def _plain(node: Mapping[str, object]) -> dict[str, object]:
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    return dict(node)


def _problem(fault: Fault, known: Sequence[str]) -> Problem:
    """A fault of a part's settings. known: the keys of the part."""
    fix = fault.fix or hint(fault.key, known)
    if not fix:
        names = [sibling.rpartition(".")[2] for sibling in fault.siblings]
        fix = nearest(fault.key.rpartition(".")[2], names)
    why = f"{fault.why} of this part" if fault.siblings else fault.why
    return Problem(key=fault.key, value=fault.value, why=why, fix=fix)
