"""What the pages say is there is there: links, pictures, files, modules, targets of make, settings, metrics, tables."""

from __future__ import annotations

import dataclasses
import enum
import importlib.util
import re
import tomllib
import typing
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import AREAS, PAGES, ROOT, anchors, blocks, links, short, spans, table

from raylign import __version__
from raylign.config.alarms import default_alarms
from raylign.config.build import target_class
from raylign.config.compose import options, recipes
from raylign.config.schema import Config
from raylign.contracts import Stage
from raylign.data.readers import Format

README = ROOT / "README.md"
README_LINES = 185
WIDEST_PROSE = 130
PICTURES = sorted((ROOT / "platform" / "pictures").iterdir())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SECTIONS = {item.name for item in dataclasses.fields(Config)} - {"recipe", "scale", "seed"}
SETTING = re.compile(r"[+~]?((?:[a-z_]+)(?:\.[A-Za-z_]\w*)+)(?:=.*)?")
FILES = (".json", ".jsonl", ".py", ".md", ".log", ".html")

pages = pytest.mark.parametrize("page", PAGES, ids=short)


def test_the_readme_is_short() -> None:
    lines = README.read_text().splitlines()
    assert sum(not line.startswith("|") for line in lines) <= README_LINES, (
        "besides tables, which grow by a row a recipe"
    )
    long = [line for line in lines if len(line) > WIDEST_PROSE and not line.startswith("|")]
    assert not long, long


@pages
def test_links_and_pictures_resolve(page: Path) -> None:
    wrong = []
    for picture, text, target in links(page):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            wrong.append(f"{target} is not there")
        elif anchor and anchor not in anchors(file):
            wrong.append(f"{target}: no such heading; there are {', '.join(sorted(anchors(file)))}")
        elif picture and (not text or file not in PICTURES):
            wrong.append(f"{target}: a picture has a text, and lies in platform/pictures")
    assert not wrong, "\n".join(wrong)


def test_every_page_is_reached_from_the_readme() -> None:
    reached, left = {README}, [README]
    while left:
        page = left.pop()
        for _, _, target in links(page):
            file = (page.parent / target.partition("#")[0]).resolve()
            if file in PAGES and file not in reached:
                reached.add(file)
                left.append(file)
    assert set(PAGES) == reached, [short(page) for page in PAGES if page not in reached]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_pictures_are_drawn_for_light_and_dark_pages_and_shown(picture: Path) -> None:
    tree = ET.fromstring(picture.read_text())
    assert tree.tag.endswith("svg") and tree.get("role") == "img" and tree.get("viewBox")
    assert any(child.tag.endswith("title") and child.text for child in tree)
    style = "".join(child.text or "" for child in tree if child.tag.endswith("style"))
    assert "prefers-color-scheme: dark" in style
    drawn = {name for node in tree.iter() for name in node.get("class", "").split()}
    assert drawn <= set(re.findall(r"\.([\w-]+)", style)), "a class without a style is black on black"
    shown = [page for page in PAGES for is_picture, _, target in links(page) if is_picture and picture.name in target]
    assert shown


@pages
def test_targets_and_modules_that_are_run_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    code = "\n".join([*spans(page), *(block.text for block in blocks(page))])
    for target in re.findall(r"(?:^|\s)make ([a-z-]+)", code, re.MULTILINE):
        assert target in targets, f"make {target}"
    for module in re.findall(r"python -m (benchmarks[\w.]*)", code):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    for name in re.findall(r"make bench NAME=(\w+)", code):
        assert (ROOT / "benchmarks" / f"{name}.py").exists(), name
    for name in re.findall(r"make experiment RECIPE=(\w+)", code):
        assert (ROOT / "benchmarks" / "experiments" / f"{name}.py").exists(), name


@pages
def test_files_and_names_of_the_package_exist(page: Path) -> None:
    wrong = []
    for span in spans(page):
        place = span.split("::")[0]
        if place.split("/")[0] in AREAS and "/" in place and not re.search(r"[*<…\s]|=", place):
            wrong += [] if (ROOT / place).exists() else [place]
        elif re.fullmatch(r"raylign(\.\w+)+", span) and not known(span):
            wrong.append(span)
    text = page.read_text()
    for prefix, rows in tables_of_targets(text):
        wrong += [f"{prefix}.{name}" for row in rows for name in row if not known(f"{prefix}.{name}")]
    assert not wrong, wrong


def tables_of_targets(text: str) -> Iterator[tuple[str, list[list[str]]]]:
    """(prefix, code of the first cell of each row) of tables whose heading says ``_target_: PREFIX.…``."""
    for match in re.finditer(r"^\| `[^`]*_target_: ([\w.]+)\.…` .*\n\|.*\n((?:\|.*\n)+)", text, re.MULTILINE):
        yield match[1], [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in match[2].splitlines()]


def known(name: str) -> bool:
    """Whether a dotted name is a module, or is defined or re-exported in one; nothing heavy is imported."""
    module, rest = name, ""
    while module:
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            spec = None
        if spec is not None:
            first = rest.split(".")[0]
            return not rest or bool(re.search(rf"\b{re.escape(first)}\b", Path(str(spec.origin)).read_text()))
        module, _, last = module.rpartition(".")
        rest = f"{last}.{rest}" if rest else last
    return False


def fields_of(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {item.name: hints[item.name] for item in dataclasses.fields(kind)}


def is_setting(key: str) -> bool:
    """Whether a dotted key leads to a field of the schema; what lies in a part is the part's own, and `_target_`."""
    words = key.split(".")
    if words[0] == "stages":
        return len(words) < 3 or any(words[2] in fields_of(stage.Config) for stage in stages())
    kind: Any = Config
    while words:
        if dataclasses.is_dataclass(kind):
            fields = fields_of(typing.cast(type, kind))
            if words[0] not in fields:
                return False
            kind = fields[words.pop(0)]
        elif typing.get_origin(kind) is dict:
            kind = typing.get_args(kind)[1]
            words.pop(0)
            if kind is Any:
                return True
        else:
            return False
    return True


def stages() -> list[type[Any]]:
    trained = ("sft.Sft", "preference.Preference", "reward_model.TrainRewardModel", "rl.Rl", "evaluate.Evaluate")
    names = (*trained, "generate.Generate", "collect.Collect", "fit.Fit", "calibrate.Calibrate")
    kinds = [target_class({"_target_": f"raylign.recipes.stages.{name}"}, "stages") for name in names]
    assert all(issubclass(kind, Stage) for kind in kinds)
    return kinds


@pages
def test_settings_exist(page: Path) -> None:
    words = {word for span in spans(page) for word in span.split() if not word.endswith(FILES)}
    keys = sorted({match[1] for word in words if (match := SETTING.fullmatch(word))})
    keys = [key for key in keys if not re.search(r"\.[A-Z][a-z]", key)]  # a class: its module is called like a section
    wrong = [key for key in keys if key.split(".")[0] in SECTIONS and not is_setting(key)]
    assert not wrong, wrong


def default_of(key: str) -> Any:
    """What a setting is when nobody sets it: of the schema, of the rl stage, or of the part in its place."""
    place: Any = Config()
    words = key.split(".")
    if words[0] == "stages":
        place, words = target_class({"_target_": "raylign.recipes.stages.rl.Rl"}, "stages.rl").Config(), words[2:]
    for word in words:
        place = getattr(place, word)
        if isinstance(place, dict) and "_target_" in place:
            place = target_class(place, key).Config()
    return place.name if isinstance(place, enum.Enum) else place


def test_defaults_are_those_of_the_schema() -> None:
    compared = 0
    for names, values, _ in table(ROOT / "conf" / "README.md", "setting"):
        keys, shown = re.findall(r"`([^`]+)`", names), values.split(", ")
        for key, value in zip(keys, shown, strict=len(shown) > 1):
            default = default_of(key)
            if default in ("", None):
                continue  # the cell says what happens then
            same = float(value) == default if isinstance(default, float) else value == str(default).lower()
            assert same, f"{key} is {default} by default, not {value}"
            compared += 1
    assert compared >= 20


def test_tables_list_everything_that_there_is() -> None:
    conf, front = ROOT / "conf" / "README.md", "\n".join(row[0] for row in table(README, "run"))
    assert {re.findall(r"recipe=(\w+)", row[0])[0] for row in table(README, "run")} == set(recipes()), front
    assert codes(table(conf, "`variant=`")) == set(options("variant"))
    assert codes(table(conf, "`scale=`")) == set(options("scale"))
    assert codes(table(conf, "`sweep=`")) == set(options("sweep"))
    assert codes(table(conf, "format")) == set(Format.__members__) - {"auto"}
    listed = {re.findall(r"`(\w+)`", row[0])[0]: row[1] for row in table(ROOT / "platform" / "README.md", "alarm")}
    watched = {name: set(re.findall(r"`([^`]+)`", cell)) for name, cell in listed.items()}
    assert watched == {name: set(alarm.metrics) for name, alarm in default_alarms().items()}
    shown = {row[0].strip("`") for row in table(ROOT / "recipes" / "README.md", "stage")}
    assert shown == {f"{kind.__module__}.{kind.__name__}" for kind in stages()}


def codes(rows: list[list[str]]) -> set[str]:
    return {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}


def test_the_glossary_knows_the_metrics_of_the_code_and_no_others() -> None:
    listed = {
        name for row in table(ROOT / "platform" / "README.md", "metric") for name in re.findall(r"`(\S+)`", row[0])
    }
    made = set(metrics_of_the_code())
    shapes = [re.compile(re.sub(r"<\w+>", r"[\\w/{}.]+", name) + "$") for name in listed]
    unlisted = sorted(name for name in made if not any(shape.match(name) for shape in shapes))
    assert not unlisted, f"platform/README.md does not say what these are: {unlisted}"
    code = "\n".join(path.read_text() for area in AREAS[:3] for path in (ROOT / area).rglob("*.py"))
    unknown = [name for name in listed if "/" in name and not said(name, code)]
    assert not unknown, f"nothing records {unknown}"


def metrics_of_the_code() -> Iterator[str]:
    folders = ("platform/raylign/loop", "platform/raylign/objectives")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    files += [
        ROOT / "platform/raylign/evaluate.py",
        ROOT / "platform/raylign/loop_lag.py",
        ROOT / "actors/learner/engine.py",
    ]
    for path in files:
        yield from re.findall(r'"([a-z_]+/[a-z_/]+)"', path.read_text())


def said(name: str, code: str) -> bool:
    """Whether the code has the name, or a prefix of it that something is added to."""
    if f'"{name}"' in code:
        return True
    parts = name.split("/")
    return any(f'"{"/".join(parts[:n])}/{{' in code for n in range(1, len(parts)))


def test_the_citation_and_the_licence_are_those_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == __version__
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert citation["authors"] == [{"name": "the raylign developers"}]
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_hooks_run_what_is_there() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local", "nothing is fetched"
    for hook in repository["hooks"]:
        for word in hook["entry"].split():
            assert not word.startswith("tests/") or (ROOT / word).exists(), word
