"""``raylign recipes``: what there is to run, and the card of each."""

from __future__ import annotations

import argparse
import ast
import importlib.util
from pathlib import Path
from typing import Any

from raylign.cli.options import new_command, say
from raylign.config.compose import options, recipes
from raylign.config.nearest import nearest_option
from raylign.errors import ConfigError, Problem
from raylign.telemetry.table import table


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = new_command(commands, "recipes", "list the recipes, or show the card of one")
    parser.add_argument("name", nargs="?", default="", help="a recipe")
    parser.add_argument("--config-dir", default="", metavar="DIR", help="a folder with further recipe/ files")
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Print the list or the card."""
    known = recipes(parsed.config_dir)
    if not parsed.name:
        say(table(["recipe", "what it does"], [(name, card(name).split("\n", 1)[0]) for name in known]))
        say()
        for group in ("variant", "scale"):
            say(f"{group}: {', '.join(options(group, parsed.config_dir))}")
        return 0
    if parsed.name not in known:
        variant = parsed.name in options("variant", parsed.config_dir)
        fix = f"it is a variant: recipe=grpo variant={parsed.name}" if variant else nearest_option(parsed.name, known)
        fix += "" if variant or parsed.config_dir else "; one of your own: --config-dir FOLDER"
        raise ConfigError([Problem(key="recipe", value=parsed.name, why="is no recipe", fix=fix)])
    say(f"{parsed.name}: {card(parsed.name)}")
    path = _yaml(parsed.name, parsed.config_dir)
    if path is not None:
        say(f"\n--- {path}\n{path.read_text().rstrip()}")
    return 0


def card(name: str) -> str:
    """The docstring of the recipe's module ``raylign.recipes.<name>``, read without importing it."""
    spec = importlib.util.find_spec(f"raylign.recipes.{name}")
    if spec is None or spec.origin is None:
        return "(its YAML says all)"
    return (ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or "").strip()


def _yaml(name: str, config_dir: str) -> Path | None:
    spec = importlib.util.find_spec("raylign.conf")
    folders = [Path(config_dir)] if config_dir else []
    folders += [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return next((path for folder in folders if (path := folder / "recipe" / f"{name}.yaml").exists()), None)
