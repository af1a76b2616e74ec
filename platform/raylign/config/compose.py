"""From a command line to a typed `Config`: Hydra picks and orders the files, which are then merged and checked.

Layers, later wins: schema defaults, ``config.yaml``, scale, recipe, variant, sweep, the block of the chosen scale below
the key ``at`` of any of those files, the command line. Four rules differ from a plain merge: a layer that changes the
``_target_`` of a part replaces the whole part (its old fields belong to another class); what a layer sets below an
interpolated node changes a copy of the other node; a mapping whose keys are the user's own (``weights={a: 1}``) is all
that there is if the command line writes it whole; and a stage, reward, frozen model or judge that ends up null is left
out. Every problem of every layer is reported at once, with its layer.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigLoadError
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from raylign.config.emptied import kept
from raylign.config.layers import COMMAND_LINE, Layers
from raylign.config.nearest import nearest_option
from raylign.config.overlaid import settle
from raylign.config.overrides import apply_overrides, check_choices, parse
from raylign.config.resolve import Run, resolve
from raylign.config.schema import Config
from raylign.config.toy import TOY, count_own_rows, unnamed_scale
from raylign.config.typed import to_config
from raylign.config.validate import validate
from raylign.errors import ConfigError, Problem

CONF = "pkg://raylign.conf"


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
    config, tree, given, problems = _merged(overrides, config_dir)
    if config is None:
        return None, problems
    run, of_parts = resolve(config, tree, given)
    known = {problem.key for problem in problems}
    later = {(problem.key, problem.why): problem for problem in (*of_parts, *validate(run, to_run))}
    return run, problems + [problem for problem in later.values() if problem.key not in known]


def layered(overrides: Sequence[str], config_dir: str = "") -> Run:
    """The settings, with no part resolved or checked. Raises ConfigError on keys and values that fit no field."""
    config, tree, given, problems = _merged(overrides, config_dir)
    if problems or config is None:
        raise ConfigError(problems)
    return Run(config=config, tree=tree, given=given)


def _merged(
    overrides: Sequence[str], config_dir: str
) -> tuple[Config | None, dict[str, object], frozenset[str], list[Problem]]:
    """The typed settings and their plain form, every layer merged, and the keys that the command line set; None where
    they cannot be made.
    """
    repository = _repository(config_dir)
    parsed, problems = parse(overrides)
    groups = set(repository.get_group_options("", ObjectType.GROUP))
    picked, choice_problems = check_choices(parsed, groups, repository)
    if any(problem.key == "recipe" for problem in choice_problems):  # any recipe will do to check the other keys
        picked += OverridesParser.create().parse_overrides([f"recipe={repository.get_group_options('recipe')[0]}"])
    try:
        defaults = create_defaults_list(
            repo=repository, config_name="config", overrides_list=picked, prepend_hydra=False, skip_missing=False
        )
        layers = Layers(tree=_schema_tree())
        for item in defaults.defaults:
            layer = _load(repository, item.config_path, item.package)
            outside = _outside(str(item.config_path), item.package or "", layer)
            problems += [*outside, *kept(layer, str(item.config_path))]
            layers.add({} if outside else layer, str(item.config_path))
    except (HydraException, ConfigLoadError, OmegaConfBaseException, YAMLError) as cause:
        fix = "correct the file"
        problems += choice_problems
        problems.append(Problem(key="configuration", value=" ".join(overrides), why=str(cause), fix=fix))
        return None, {}, frozenset(), problems
    choices = defaults.overrides.known_choices
    layers.add({"recipe": choices["recipe"], "scale": choices["scale"]}, "choices")
    problems += _apply_scale(layers, str(choices["scale"]), repository)
    problems += apply_overrides(layers, [item for item in picked if item.key_or_group not in groups])
    problems += settle(layers.tree)
    count_own_rows(layers)
    if choices["scale"] == TOY and not any(item.key_or_group == "scale" for item in parsed):
        choice_problems += unnamed_scale(layers, repository.get_group_options("scale"))
    problems += choice_problems
    _drop_empty(layers.tree)
    _give_gpus(layers.tree)
    try:
        tree = OmegaConf.to_container(OmegaConf.create(layers.tree), resolve=True)
    except OmegaConfBaseException as cause:
        why = str(cause).splitlines()[0]
        fix = "correct the reference"
        problems.append(Problem(key=str(cause.full_key), value="an interpolation", why=why, fix=fix))
        return None, {}, frozenset(), problems
    assert isinstance(tree, dict)
    problems += _empty_starts(layers.tree["stages"], tree["stages"])
    config, clean = to_config({str(key): value for key, value in tree.items()}, layers, groups, problems)
    given = frozenset(key for key, origin in layers.origins.items() if origin == COMMAND_LINE)
    return (None if choice_problems else config), clean, given, problems


def recipes(config_dir: str = "") -> list[str]:
    """Names of all recipes that can be composed."""
    return options("recipe", config_dir)


def options(group: str, config_dir: str = "") -> list[str]:
    """Names of the files in a group, e.g. ``options("variant")``."""
    return _repository(config_dir).get_group_options(group)


def _repository(config_dir: str) -> CachingConfigRepository:
    """The files of all groups: ours, which are read once a process, and before them those of a user's folder."""
    return _read_anew(config_dir) if config_dir else _ours()


@functools.cache
def _ours() -> CachingConfigRepository:
    return _read_anew("")


def _read_anew(config_dir: str) -> CachingConfigRepository:
    Plugins.instance()  # registers the file:// and pkg:// sources
    search_path = ConfigSearchPathImpl()
    if config_dir:
        folder = Path(config_dir).expanduser().resolve()
        if not folder.is_dir():
            fix = "name a folder of YAML groups"
            raise ConfigError([Problem(key="--config-dir", value=config_dir, why="is no folder", fix=fix)])
        search_path.append("user", f"file://{folder}")
    search_path.append("main", CONF)
    return CachingConfigRepository(ConfigRepository(search_path))


def _schema_tree() -> dict[str, object]:
    """The defaults, a fresh copy."""
    return copy.deepcopy(_defaults())


@functools.cache
def _defaults() -> dict[str, object]:
    tree = OmegaConf.to_container(OmegaConf.structured(Config), enum_to_str=True)
    assert isinstance(tree, dict)
    for frozen in tree["frozen"].values():
        del frozen["gpus"]  # what the scale says, see `_give_gpus`
    return {str(key): value for key, value in tree.items()}


def _load(repository: CachingConfigRepository, path: str | None, package: str | None) -> dict[str, object]:
    assert path is not None
    loaded = repository.load_config(path)
    assert loaded is not None
    tree = OmegaConf.to_container(loaded.config)
    layer: dict[str, object] = {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}
    for name in reversed((package or "").split(".")):
        layer = {name: layer} if name and name != "_global_" else layer
    return layer


def _outside(path: str, package: str, layer: Mapping[str, object]) -> list[Problem]:
    """A file of a group that is no section, such as `recipe`, says where its settings belong, or they go nowhere."""
    section = package.partition(".")[0]
    if section in ("", "_global_") or isinstance(_defaults().get(section), dict) or not layer.get(section):
        return []
    why, fix = f"has settings, which would stand under {section}", "make `# @package _global_` its first line"
    return [Problem(key=f"{path}.yaml", value=f"@package {package}", why=why, fix=fix)]


def _apply_scale(layers: Layers, scale: str, repository: CachingConfigRepository) -> list[Problem]:
    """Take ``at`` out of the tree and merge the block of the chosen scale."""
    blocks = layers.tree.pop("at", None) or {}
    if not isinstance(blocks, Mapping):
        why, fix = "must hold one block per scale", "write at: {tiny: {...}}"
        return [Problem(key="at", value=str(blocks), why=why, fix=fix)]
    known = repository.get_group_options("scale")
    chosen = blocks.get(scale) or {}
    origins = {key: origin for key, origin in layers.origins.items() if key.startswith("at.")}
    for key in origins:
        del layers.origins[key]
    layers.add(chosen, f"at.{scale}")
    return [
        Problem(
            key=f"at.{name}",
            value="a block",
            why=f"is no scale (set in {_first(origins, name)})",
            fix=nearest_option(name, known),
        )
        for name in blocks
        if name not in known
    ]


def _first(origins: Mapping[str, str], name: str) -> str:
    return next((origin for key, origin in origins.items() if key.startswith(f"at.{name}")), "a recipe")


def _drop_empty(tree: dict[str, object]) -> None:
    """What has a name under one of these and is null is not there: a file may keep its place in order by it."""
    audit = tree["audit"]
    holders = [(tree, name) for name in ("stages", "rewards", "frozen", "judges")]
    for holder, name in [*holders, *([(audit, "graders")] if isinstance(audit, dict) else [])]:
        section = holder[name]
        if isinstance(section, Mapping):
            holder[name] = {key: value for key, value in section.items() if value is not None}


def _empty_starts(stages: object, resolved: object) -> list[Problem]:
    """Stages that take their start from another setting, which is empty: they would go on from the stage before."""
    assert isinstance(stages, Mapping) and isinstance(resolved, Mapping)
    starts = {name: str(stage.get("start", "")) for name, stage in stages.items() if isinstance(stage, Mapping)}
    return [
        Problem(
            key=f"stages.{name}.start",
            value=start,
            why="is empty, and the stage would start from what the stage before has made",
            fix=f"set model.path, or stages.{name}.start=@STAGE",
        )
        for name, start in starts.items()
        if "${" in start and not resolved[name]["start"]
    ]


def _give_gpus(tree: dict[str, object]) -> None:
    """A frozen model or judge that names no GPUs gets the scale's."""
    for name, setting in (("frozen", "frozen"), ("judges", "judge")):
        models = tree[name]
        for model in models.values() if isinstance(models, Mapping) else ():
            if isinstance(model, dict):
                model.setdefault("gpus", f"${{default_gpus.{setting}}}")
