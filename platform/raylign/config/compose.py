"""From a command line to a typed `Config`: Hydra picks and orders the files, this module merges and checks them.

Layers, later wins: schema defaults, ``config.yaml``, scale, recipe, variant, sweep, the block of the chosen scale below
the key ``at`` of any of those files, the command line. Two rules differ from a plain merge: a layer that changes the
``_target_`` of a part replaces the whole part (its old fields belong to another class), and a stage, reward, frozen
model or judge that ends up null is left out. Every problem of every layer is reported at once, with its layer.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigLoadError
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from raylign.config.resolve import Run, resolve
from raylign.config.schema import Config
from raylign.config.strict import check, leaf_keys, nearest_keys, nearest_option, part_keys
from raylign.config.validate import validate
from raylign.errors import ConfigError, Problem

CONF = "pkg://raylign.conf"
COMMAND_LINE = "command line"


@dataclass(kw_only=True)
class _Layers:
    """The merge so far, and which layer set each leaf."""

    tree: dict[str, Any]
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, layer: Mapping[str, Any], origin: str) -> None:
        self.tree = merge(self.tree, layer)
        for key, _ in leaves(layer):
            self.origins[key] = origin

    def origin(self, key: str) -> str:
        """The layer that set a key, or the one that set something below it."""
        if key in self.origins:
            return self.origins[key]
        return next((origin for leaf, origin in self.origins.items() if leaf.startswith(f"{key}.")), "")


def compose(overrides: Sequence[str], config_dir: str = "", to_run: bool = True) -> Run:
    """Compose, resolve and check a configuration.

    overrides: Hydra's grammar, e.g. ``["recipe=grpo", "scale=tiny", "learner.optim.lr=1e-4", "~stages.sft"]``.
    config_dir: a folder of further groups (``recipe/mine.yaml``), searched before the built-in ones.
    to_run: model folders without weights or tokenizer are refused; a plan is made from their config.json.
    Raises ConfigError with every problem.
    """
    run, problems = compose_with_problems(overrides, config_dir, to_run)
    if problems or run is None:
        raise ConfigError(problems)
    return run


def compose_with_problems(
    overrides: Sequence[str], config_dir: str = "", to_run: bool = True
) -> tuple[Run | None, list[Problem]]:
    """As `compose`, but returns the problems, and a run without the faulty keys and parts where one can be made."""
    config, tree, problems = _merged(overrides, config_dir)
    if config is None:
        return None, problems
    run, of_parts = resolve(config, tree)
    known = {problem.key for problem in problems}
    later = {(problem.key, problem.why): problem for problem in (*of_parts, *validate(run, to_run))}
    return run, problems + [problem for problem in later.values() if problem.key not in known]


def layered(overrides: Sequence[str], config_dir: str = "") -> Run:
    """The settings, with no part resolved or checked. Raises ConfigError on keys and values that fit no field."""
    config, tree, problems = _merged(overrides, config_dir)
    if problems or config is None:
        raise ConfigError(problems)
    return Run(config=config, tree=tree)


def _merged(overrides: Sequence[str], config_dir: str) -> tuple[Config | None, dict[str, Any], list[Problem]]:
    """The typed settings and their plain form, every layer merged; None where they cannot be made."""
    repository = _repository(config_dir)
    parsed, problems = _parse(overrides)
    groups = set(repository.get_group_options("", ObjectType.GROUP))
    picked, choice_problems = _check_choices(parsed, groups, repository)
    problems += choice_problems
    if any(problem.key == "recipe" for problem in choice_problems):  # any recipe will do to check the other keys
        picked += OverridesParser.create().parse_overrides([f"recipe={repository.get_group_options('recipe')[0]}"])
    try:
        defaults = create_defaults_list(
            repo=repository, config_name="config", overrides_list=picked, prepend_hydra=False, skip_missing=False
        )
        layers = _Layers(tree=_schema_tree())
        for item in defaults.defaults:
            layers.add(_load(repository, item.config_path, item.package), str(item.config_path))
    except (HydraException, ConfigLoadError, OmegaConfBaseException, YAMLError) as cause:
        return None, {}, [*problems, _problem("configuration", " ".join(overrides), str(cause), "correct the file")]
    choices = defaults.overrides.known_choices
    layers.add({"recipe": choices["recipe"], "scale": choices["scale"]}, "choices")
    problems += _apply_scale(layers, str(choices["scale"]), repository)
    problems += _apply_overrides(layers, [item for item in picked if item.key_or_group not in groups])
    _drop_empty(layers.tree)
    _give_gpus(layers.tree)
    try:
        tree = OmegaConf.to_container(OmegaConf.create(layers.tree), resolve=True)
    except OmegaConfBaseException as cause:
        why = str(cause).splitlines()[0]
        return None, {}, [*problems, _problem(str(cause.full_key), "an interpolation", why, "correct the reference")]
    config, clean = _typed(tree, layers, groups, problems)  # type: ignore[arg-type]
    return (None if choice_problems else config), clean, problems


def recipes(config_dir: str = "") -> list[str]:
    """Names of all recipes that can be composed."""
    return options("recipe", config_dir)


def options(group: str, config_dir: str = "") -> list[str]:
    """Names of the files in a group, e.g. ``options("variant")``."""
    return _repository(config_dir).get_group_options(group)


def merge(base: Mapping[str, Any], layer: Mapping[str, Any], parts: bool = True) -> dict[str, Any]:
    """`base` overlaid by `layer`, mapping by mapping. parts: a changed ``_target_`` replaces the part.

    Example: ``merge({"a": {"_target_": "x.A", "k": 1}}, {"a": {"_target_": "x.B"}})`` is ``{"a": {"_target_": "x.B"}}``
    """
    merged = dict(base)
    for key, value in layer.items():
        old = merged.get(key)
        replaced = parts and isinstance(value, Mapping) and "_target_" in value and _target(old) != value["_target_"]
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not replaced:
            merged[key] = merge(old, value, parts)
        else:
            merged[key] = merge({}, value) if isinstance(value, Mapping) else value
    return merged


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf; an empty mapping is a leaf."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _target(node: Any) -> Any:
    return node.get("_target_") if isinstance(node, Mapping) else None


def _repository(config_dir: str) -> CachingConfigRepository:
    Plugins.instance()  # registers the file:// and pkg:// sources
    search_path = ConfigSearchPathImpl()
    if config_dir:
        folder = Path(config_dir).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigError([_problem("--config-dir", config_dir, "is no folder", "name a folder of YAML groups")])
        search_path.append("user", f"file://{folder}")
    search_path.append("main", CONF)
    return CachingConfigRepository(ConfigRepository(search_path))


def _schema_tree() -> dict[str, Any]:
    """The defaults, a fresh copy."""
    return copy.deepcopy(_defaults())


@functools.cache
def _structured() -> Any:
    """The typed node of all settings; a merge copies it."""
    return OmegaConf.structured(Config)


@functools.cache
def _defaults() -> dict[str, Any]:
    tree = OmegaConf.to_container(OmegaConf.structured(Config), enum_to_str=True)
    assert isinstance(tree, dict)
    for frozen in tree["frozen"].values():
        del frozen["gpus"]  # what the scale says, see `_give_gpus`
    return {str(key): value for key, value in tree.items()}


def _parse(overrides: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    parser = OverridesParser.create()
    parsed: list[Override] = []
    problems: list[Problem] = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as cause:
            why = f"is no override ({str(cause).splitlines()[0]})"
            problems.append(
                _problem("command line", text, why, "write key=value; quote a value with special characters")
            )
            continue
        if not override.key_or_group:
            problems.append(_problem("command line", text, "names no key", "write key=value"))
            continue
        if override.is_sweep_override():
            fix = f"add -m to sweep over it, or write {override.key_or_group}=[a,b] for a list"
            problems.append(_problem(override.key_or_group, text, "is a sweep over several values", fix))
        else:
            parsed.append(override)
    return parsed, problems


def _check_choices(
    parsed: Sequence[Override], groups: set[str], repository: CachingConfigRepository
) -> tuple[list[Override], list[Problem]]:
    """Overrides that name a group must name one of its files; those that do not are left out and reported."""
    kept: list[Override] = []
    problems: list[Problem] = []
    for override in parsed:
        group = override.key_or_group
        if group not in groups or override.is_delete():
            kept.append(override)
            continue
        known = repository.get_group_options(group)
        wanted = override.value()
        if wanted is None and group not in ("recipe", "scale"):
            kept += OverridesParser.create().parse_overrides([f"~{group}"])  # Hydra's own way to say "none of these"
        elif wanted in known:
            kept.append(override)
        else:
            fix = nearest_option(str(wanted), known)
            problems.append(_problem(group, str(wanted), f"is no {group}", fix))
    asked = {override.key_or_group for override in parsed}
    if "recipe" not in asked:
        known = repository.get_group_options("recipe")
        near = [name for name in asked if nearest_keys(name, ["recipe"]).startswith("did you mean")]
        hint = f" (is {near[0]}= meant to be recipe=?)" if near else ""
        fix = f"add recipe=NAME{hint}; known: {', '.join(known)}"
        problems.append(_problem("recipe", "absent", "every run needs a recipe", fix))
    return kept, problems


def _load(repository: CachingConfigRepository, path: str | None, package: str | None) -> dict[str, Any]:
    assert path is not None
    loaded = repository.load_config(path)
    assert loaded is not None
    tree = OmegaConf.to_container(loaded.config)
    layer: dict[str, Any] = {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}
    for name in reversed((package or "").split(".")):
        layer = {name: layer} if name and name != "_global_" else layer
    return layer


def _apply_scale(layers: _Layers, scale: str, repository: CachingConfigRepository) -> list[Problem]:
    """Take ``at`` out of the tree and merge the block of the chosen scale."""
    blocks = layers.tree.pop("at", None) or {}
    if not isinstance(blocks, Mapping):
        return [_problem("at", str(blocks), "must hold one block per scale", "write at: {tiny: {...}}")]
    known = repository.get_group_options("scale")
    chosen = blocks.get(scale) or {}
    origins = {key: origin for key, origin in layers.origins.items() if key.startswith("at.")}
    for key in origins:
        del layers.origins[key]
    layers.add(chosen, f"at.{scale}")
    return [
        _problem(f"at.{name}", "a block", f"is no scale (set in {_first(origins, name)})", nearest_option(name, known))
        for name in blocks
        if name not in known
    ]


def _first(origins: Mapping[str, str], name: str) -> str:
    return next((origin for key, origin in origins.items() if key.startswith(f"at.{name}")), "a recipe")


def _drop_empty(tree: dict[str, Any]) -> None:
    """A stage, reward, frozen model or judge that is null is not there: a file may keep its place in order by it."""
    for name in ("stages", "rewards", "frozen", "judges"):
        if isinstance(tree[name], Mapping):
            tree[name] = {key: value for key, value in tree[name].items() if value is not None}


def _give_gpus(tree: dict[str, Any]) -> None:
    """A frozen model or judge that names no GPUs gets the scale's."""
    for name, setting in (("frozen", "frozen"), ("judges", "judge")):
        models = tree[name] if isinstance(tree[name], Mapping) else {}
        for model in models.values():
            if isinstance(model, dict):
                model.setdefault("gpus", f"${{default_gpus.{setting}}}")


def _apply_overrides(layers: _Layers, overrides: Sequence[Override]) -> list[Problem]:
    """The command line's settings, then its removals; a removal of what is not there is a problem."""
    problems: list[Problem] = []
    layer: dict[str, Any] = {}
    for override in overrides:
        if override.is_delete():
            continue
        value = override.value()
        for name in reversed(override.key_or_group.split(".")):
            value = {name: value}
        layer = merge(layer, value, parts=False)  # type: ignore[arg-type]  # one layer, whatever its order
    layers.add(layer, COMMAND_LINE)
    for override in overrides:
        if override.is_delete():
            *parents, last = override.key_or_group.split(".")
            node: Any = layers.tree
            for name in parents:
                node = node.get(name, {}) if isinstance(node, dict) else {}
            if isinstance(node, dict) and last in node:
                del node[last]
            else:
                here = [".".join([*parents, name]) for name in node] if isinstance(node, dict) else []
                fix = nearest_keys(override.key_or_group, here)
                problems.append(_problem(override.key_or_group, "~", "is not there to be removed", fix))
    return problems


def _typed(
    tree: dict[str, Any], layers: _Layers, groups: set[str], problems: list[Problem]
) -> tuple[Config | None, dict[str, Any]]:
    """The typed config and its plain form; appends to `problems`."""
    clean, found = check(Config, tree)
    everywhere = [*leaf_keys(Config), *part_keys(tree)] if found else []
    for fault in found:
        origin = layers.origin(fault.key)
        where = "" if origin in ("", COMMAND_LINE) else f" (set in {origin})"
        siblings = fault.siblings if "." in fault.key else tuple(dict.fromkeys([*fault.siblings, *sorted(groups)]))
        fix = fault.fix or nearest_keys(fault.key, everywhere, siblings)
        problems.append(_problem(fault.key, fault.value, fault.why + where, fix))
    try:
        typed = OmegaConf.merge(_structured(), _literal(clean))
        config = OmegaConf.to_object(typed)
    except (OmegaConfBaseException, ValueError) as cause:
        problems.append(_problem("configuration", "", str(cause).splitlines()[0], "correct the value"))
        return None, clean
    assert isinstance(config, Config)
    return config, clean


def _literal(value: Any) -> Any:
    """What is resolved stays as it reads: a text that holds ``${`` is no reference any more."""
    if isinstance(value, Mapping):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return re.sub(r"(\\*)\$\{", lambda hit: hit[1] * 2 + "\\${", value) if isinstance(value, str) else value


def _problem(key: str, value: str, why: str, fix: str) -> Problem:
    return Problem(key=key, value=value, why=why, fix=fix)
