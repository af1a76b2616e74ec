"""The command line's overrides: which of them choose files of groups, and what the others set and remove."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from raylign.config.emptied import refilled
from raylign.config.free_keys import FreeKeys
from raylign.config.layers import COMMAND_LINE, Layers, merge
from raylign.config.nearest import nearest_keys, nearest_option
from raylign.config.other_names import RECIPES
from raylign.errors import Problem

NAMED = ("recipe", "variant", "scale")  # groups that a name is looked for in


def parse(overrides: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """The overrides that can be read and set one value each, and what is wrong with the others."""
    parser = OverridesParser.create()
    parsed: list[Override] = []
    problems: list[Problem] = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as cause:
            why = f"is no override ({str(cause).splitlines()[0]})"
            fix = "write key=value; quote a value with special characters"
            problems.append(Problem(key=COMMAND_LINE, value=text, why=why, fix=fix))
            continue
        if not override.key_or_group:
            problems.append(Problem(key=COMMAND_LINE, value=text, why="names no key", fix="write key=value"))
            continue
        if override.is_sweep_override():
            fix = f"add -m to sweep over it, or write {override.key_or_group}=[a,b] for a list"
            why = "is a sweep over several values"
            problems.append(Problem(key=override.key_or_group, value=text, why=why, fix=fix))
        else:
            parsed.append(override)
    return parsed, problems


def check_choices(
    parsed: Sequence[Override], groups: set[str], repository: CachingConfigRepository
) -> tuple[list[Override], list[Problem]]:
    """Overrides that name a group must name one of its files; those that do not are left out and reported."""
    picked: list[Override] = []
    problems: list[Problem] = []
    for override in parsed:
        group = override.key_or_group
        if group not in groups or override.is_delete():
            picked.append(override)
            continue
        known = repository.get_group_options(group)
        wanted = override.value()
        if wanted is None and group not in ("recipe", "scale"):
            picked += OverridesParser.create().parse_overrides([f"~{group}"])  # Hydra's own way to say "none of these"
        elif wanted in known:
            picked.append(override)
        else:
            fix = _meant(group, str(wanted), repository) or nearest_option(str(wanted), known)
            problems.append(Problem(key=group, value=str(wanted), why=f"is no {group}", fix=fix))
    asked = {override.key_or_group for override in parsed}
    if "recipe" not in asked:
        known = repository.get_group_options("recipe")
        near = [name for name in asked if nearest_keys(name, ["recipe"]).startswith("did you mean")]
        hint = f" (is {near[0]}= meant to be recipe=?)" if near else ""
        fix = f"add recipe=NAME{hint}; known: {', '.join(known)}"
        problems.append(Problem(key="recipe", value="absent", why="every run needs a recipe", fix=fix))
    return picked, problems


def _meant(group: str, name: str, repository: CachingConfigRepository) -> str:
    """What stands in another group under this name, or is called otherwise here; empty when nothing does."""
    other = next((item for item in NAMED if item != group and name in repository.get_group_options(item)), "")
    if group == "recipe" and (other or name.lower() in RECIPES):
        recipe = "recipe=grpo variant" if other == "variant" else other
        return f"it is a {other}: {recipe}={name}" if other else f"write {RECIPES[name.lower()]}"
    return f"it is a {other}: {other}={name}" if other else ""


def apply_overrides(layers: Layers, overrides: Sequence[Override]) -> list[Problem]:
    """The command line's settings, then its removals; a removal of what is not there is a problem."""
    problems: list[Problem] = []
    given = [(item.key_or_group, item.value()) for item in overrides if not item.is_delete()]
    free_keys = FreeKeys.of(layers.tree, _layer(_setting(key, value) for key, value in given))
    layer = _layer(free_keys.setting(key, value) for key, value in given)
    emptied = [key for key, value in given if value == {}]
    for key in emptied:
        if fix := refilled(key):
            problems.append(Problem(key=key, value="{}", why="takes nothing away", fix=fix))
    layers.add(layer, COMMAND_LINE)
    for override in overrides:
        if override.is_delete():
            *parents, last = override.key_or_group.split(".")
            node: object = layers.tree
            for name in parents:
                node = node.get(name, {}) if isinstance(node, dict) else {}
            if isinstance(node, dict) and last in node:
                del node[last]
            else:
                here = [".".join([*parents, name]) for name in node] if isinstance(node, dict) else []
                fix = nearest_keys(override.key_or_group, here)
                why = "is not there to be removed"
                problems.append(Problem(key=override.key_or_group, value="~", why=why, fix=fix))
    return problems


def _layer(settings: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """One layer of all, whatever their order."""
    layer: dict[str, object] = {}
    for setting in settings:
        layer = merge(layer, setting, parts=False)
    return layer


def _setting(key: str, value: object) -> dict[str, object]:
    *parents, last = key.split(".")
    setting: dict[str, object] = {last: value}
    for name in reversed(parents):
        setting = {name: setting}
    return setting
