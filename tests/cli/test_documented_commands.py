"""Every command that README, docker/README and the recipe cards print is composed, checked and planned as it stands.

Only names of files, models and folders that a reader fills in are replaced, by tiny local ones.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from raylign.cli import main
from raylign.config.schema import TinyModel
from raylign.data.rows import DataRow
from raylign.models.tiny import build_tiny_model
from raylign.recipes.cm2.toy import LookUps
from raylign.sweeps.drive import _settings
from raylign.sweeps.space import Space

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted([*(ROOT / "recipes").glob("*.py"), *(ROOT / "recipes").glob("*/*.py")])
COMMAND = re.compile(r"\braylign (train|plan|submit|k8s render) +(.*)")
CONTEXT = 65_536


class Command(NamedTuple):
    """One printed command. place: file and line, for the name of its test."""

    place: str
    verb: str
    rest: str


def texts() -> Iterator[tuple[str, str]]:
    for name in ("README.md", "docker/README.md"):
        yield name, (ROOT / name).read_text()
    for path in CARDS:
        yield str(path.relative_to(ROOT)), ast.get_docstring(ast.parse(path.read_text())) or ""


def commands() -> list[Command]:
    """In the order of the files; lines that end in a backslash go on in the next, code spans end at their backtick."""
    commands = []
    for name, text in texts():
        variables = dict(re.findall(r'\$ ([A-Z]+)="?(.*?)"?(?:  +#.*)?$', text, re.MULTILINE))
        for match in COMMAND.finditer(re.sub(r"\\\n *", " ", text)):
            rest = re.split(r"``?|  +#", match[2])[0]
            for variable, value in reversed(variables.items()):  # a later one may hold an earlier one
                rest = re.sub(rf"\${variable}\b", lambda hit, value=value: value, rest)
            commands.append(Command(f"{name}: {match[0][:60]}", match[1], rest))
    return commands


@functools.cache
def models() -> str:
    """A model that stands for every named one: with room for any context, in the house's own cache."""
    return str(build_tiny_model(TinyModel(hidden_size=32, layers=1, heads=2, kv_heads=1, context=CONTEXT)))


def row(number: int) -> dict[str, object]:
    """What stands for a row of any command: a question, its answer, a pair, a domain."""
    pair = {"chosen": f"{number + 1}", "rejected": f"{number}"}
    asked = {"question": f"{number}+1?", "prompt": f"{number}+1?", "answer": f"so #### {number + 1}"}
    return {**asked, **pair, "extra_info": {"opd_teacher": "math"}}


def annotated(toy: DataRow) -> dict[str, object]:
    """A dialogue of CM2's toy as a row of a file."""
    messages = [*toy.messages, *toy.meta["demonstration"]]
    return {"messages": messages, "tools": toy.tools, "checklist_list": toy.meta["checklists"]}


def filled(words: list[str], folder: Path) -> list[str]:
    """What the reader fills in: files and models become tiny local ones, `...` the tiny recipe."""
    data, dialogues = folder / "rows.jsonl", folder / "dialogues.jsonl"
    data.write_text("".join(json.dumps(row(number)) + "\n" for number in range(20)))
    dialogues.write_text("".join(json.dumps(annotated(toy)) + "\n" for toy in LookUps(LookUps.Config()).rows(20, 0)))
    answers = {"data.path": data, "data.generator.path": dialogues, "run.dir": folder / "run"}
    answers["sweep.dir"] = folder / "sweep"
    command: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if word in ("...", "…"):
            command += ["recipe=grpo", "scale=tiny"]
        elif equals and key in answers and value:
            command.append(f"{key}={answers[key]}")
        elif (equals and key.endswith("model.path")) or (key.endswith(".path") and "/" in value):
            command.append(f"{key}={models()}")
        else:
            command.append(re.sub(r"path: [\w.-]+/[\w.-]+", f"path: {models()}", word))
    return command


def test_there_are_commands_of_every_card() -> None:
    listed = commands()
    assert len(listed) >= 35
    for path in sorted((ROOT / "conf" / "recipe").glob("*.yaml")):
        assert any(f"recipe={path.stem}" in command.rest for command in listed), path.stem


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.place)
def test_a_documented_command_can_be_planned(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "guess.py").write_text(guess_number())
    shutil.copytree(ROOT / "tests" / "examples", tmp_path, dirs_exist_ok=True)
    words = [word for word in shlex.split(command.rest) if "<run" not in word]
    overrides = filled([word for word in words if "=" in word or word[0] == "~" or word == "..."], tmp_path)
    if command.verb == "k8s render":
        overrides = [word if not word.startswith("run.dir") else "run.dir=/runs/a" for word in overrides]
    if "-m" in words:  # planned at the first of its points
        space = Space.parse(overrides)
        _settings(space, "")
        overrides = space.point(space.ends()[0])
    if "--config-dir" in words:
        overrides[:0] = words[words.index("--config-dir") :][:2]
    wrong = "data.path=" in command.rest and "nothere.jsonl" in command.rest
    status = main(["plan", "--no-fit", *overrides])
    assert status == (2 if wrong else 0), capsys.readouterr().err


def guess_number() -> str:
    """README's environment."""
    block = re.search(
        r"((?:    .*\n|\n)*?    class GuessNumber(?:    .*\n|\n|.*\n)*?)\n[A-Z]", (ROOT / "README.md").read_text()
    )
    assert block is not None
    return "".join(line[4:] + "\n" for line in block[1].splitlines())
