"""A recipe can be taken out: without its folder, YAML, tests and experiment everything else passes its checks.

Copies the tree once for each recipe, removes what belongs to it, and runs there: ruff, mypy, and composing and planning
of every recipe and variant that is left. With --quick only every recipe.

    python -m benchmarks.removal [--quick] [RECIPE ...]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AREAS = ("platform", "actors", "recipes", "conf", "tests", "benchmarks")
FILES = ("pyproject.toml", "README.md")
KEPT = ("grpo", "sft")  # what others are told with
RECIPES = tuple(sorted({path.stem for path in (ROOT / "conf" / "recipe").glob("*.yaml")} - {*KEPT}))
IGNORED = shutil.ignore_patterns("*.egg-info", ".*_cache")  # bytecode goes along, with the times of its sources

# Every part that a YAML names is there, and every recipe (and variant) that is left can be planned at scale=tiny.
LEFT = """
import re, sys
from pathlib import Path
from raylign.config.build import target_class
from raylign.config.compose import compose_with_problems, options, recipes
from raylign.plan import make_plan

removed, more = sys.argv[1].split(","), sys.argv[2:] == ["variants"]
names = recipes()
assert not {*removed} & {*names} and "grpo" in names, names
for path in sorted(Path("conf").rglob("*.yaml")):
    for target in re.findall(r"_target_: *([\\w.]+)", path.read_text()):
        target_class({"_target_": target}, str(path))
variants = [["recipe=grpo", f"variant={name}"] for name in options("variant") if more]
for overrides in [[f"recipe={name}"] for name in names] + variants:
    run, problems = compose_with_problems([*overrides, "scale=tiny"])
    wrong = [problem for problem in problems if problem.key != "data.path"]  # what the reader fills in
    assert not wrong, (overrides, wrong)
    make_plan(run)
assert not [name for name in sys.modules for recipe in removed if name.startswith(f"raylign.recipes.{recipe}")]
print(len(names), "recipes and", len(variants), "variants are left")
"""


def owned(root: Path, recipe: str) -> Iterator[Path]:
    """What belongs to a recipe: its code, its YAML, and the tests and experiments that bear its name."""
    yield from (path for path in (root / "recipes" / recipe, root / "recipes" / f"{recipe}.py") if path.exists())
    yield root / "conf" / "recipe" / f"{recipe}.yaml"
    for folder in ("tests", "benchmarks"):
        for path in sorted((root / folder).rglob("*.py")):
            name = path.stem.removeprefix("test_").removeprefix("_")
            if name == recipe or name.startswith(f"{recipe}_"):
                yield path


def copy_without(recipes: Sequence[str], folder: Path, root: Path = ROOT) -> Path:
    """A copy of the tree without some recipes; returns the folder that its packages are imported from."""
    for area in AREAS:
        shutil.copytree(root / area, folder / area, ignore=IGNORED)
    for path in [path for recipe in recipes for path in owned(folder, recipe)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in FILES:
        shutil.copy(root / name, folder / name)
    project = folder / "pyproject.toml"
    # sub-packages, too
    packages = tuple(f'"raylign.recipes.{recipe}{end}' for recipe in recipes for end in ('"', "."))
    kept = [line for line in project.read_text().splitlines() if not line.strip().startswith(packages)]
    project.write_text("\n".join(kept) + "\n")
    links = folder / ".links" / "raylign"
    links.mkdir(parents=True)
    for path in sorted((folder / "platform" / "raylign").iterdir()):
        (links / path.name).symlink_to(path)
    for area in ("actors", "recipes", "conf"):
        (links / area).symlink_to(folder / area)
    return links.parent


def planned_without(recipes: Sequence[str], folder: Path, packages: Path) -> subprocess.CompletedProcess[str]:
    """Compose and plan every recipe that is left, in a process of its own."""
    return _ran([sys.executable, "-c", LEFT, ",".join(recipes)], folder, packages)


def _ran(command: Sequence[str], folder: Path, packages: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def main(arguments: Sequence[str]) -> int:
    """Check each recipe; exit status 0 when everything passes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(RECIPES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="compose and plan recipes only")
    parsed = parser.parse_args(arguments)
    failed = 0
    for recipe in parsed.recipes or RECIPES:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            packages = copy_without([recipe], folder)
            checks = {"compose and plan": [sys.executable, "-c", LEFT, recipe, *([] if parsed.quick else ["variants"])]}
            if not parsed.quick:
                if (ROOT / ".mypy_cache").exists():  # what did not change is not checked anew
                    shutil.copytree(ROOT / ".mypy_cache", folder / ".mypy_cache")
                checks |= {"ruff": ["ruff", "check", "."], "mypy": [sys.executable, "-m", "mypy"]}
            for name, command in checks.items():
                started = time.monotonic()
                done = _ran(command, folder, packages)
                failed += done.returncode != 0
                verdict = "passes" if done.returncode == 0 else f"FAILS\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
                print(f"without {recipe}: {name} {verdict} ({time.monotonic() - started:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
