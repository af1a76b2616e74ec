"""A recipe can be taken out of the tree: nothing that is left imports it, and all of that can be composed and planned.

Half of them are taken out at a time, in such ways that of any two recipes each is once gone while the other is left.
`python -m benchmarks.removal` takes them out one by one, and runs ruff and mypy on the copies, too.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.removal import AREAS, RECIPES, copy_without, owned, planned_without

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def imports() -> dict[Path, tuple[str, ...]]:
    """What every file of the tree imports, anywhere in it."""
    files = [path for area in AREAS for path in (ROOT / area).rglob("*.py")]
    return {path: tuple(imported(path)) for path in files}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_of(recipe: str) -> set[str]:
    """Dotted names of what belongs to a recipe."""
    experiments = {f"benchmarks.experiments.{path.stem}" for path in owned(ROOT, recipe) if path.suffix == ".py"}
    return {f"raylign.recipes.{recipe}"} | experiments


@pytest.mark.parametrize("recipe", RECIPES)
def test_nothing_else_imports_a_recipe(recipe: str) -> None:
    gone, removed = modules_of(recipe), set(owned(ROOT, recipe))
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, names in imports().items()
        if not removed & {path, *path.parents}
        for name in names
        if name in gone or name.startswith(tuple(f"{module}." for module in gone))
    ]
    assert not wrong, "\n".join(wrong)


def halves() -> list[tuple[str, ...]]:
    """By every binary digit of a recipe's number those that have it, and those that do not."""
    digits = range((len(RECIPES) - 1).bit_length())
    return [tuple(r for n, r in enumerate(RECIPES) if n >> d & 1 == digit) for d in digits for digit in (0, 1)]


def test_of_two_recipes_each_is_gone_while_the_other_is_left() -> None:
    gone = halves()
    assert all(any(a in half and b not in half for half in gone) for a in RECIPES for b in RECIPES if a != b)


@pytest.mark.parametrize("recipes", halves(), ids=",".join)
def test_what_is_left_can_be_planned(recipes: tuple[str, ...], tmp_path: Path) -> None:
    planned = planned_without(recipes, tmp_path, copy_without(recipes, tmp_path))
    assert planned.returncode == 0, planned.stdout + planned.stderr


def test_every_recipe_with_code_of_its_own_is_tried() -> None:
    code = {path.stem for path in (ROOT / "recipes").iterdir() if path.is_dir() or path.suffix == ".py"}
    recipes = {path.stem for path in (ROOT / "conf" / "recipe").glob("*.yaml")} & code
    assert recipes - {"grpo", "sft"} == set(RECIPES), "grpo and sft are cards of the platform's own parts"
