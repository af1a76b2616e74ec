"""Every command that the pages and the recipe cards print is composed, checked and planned as it stands.

Only names of files, models and folders that a reader fills in are replaced, by tiny local ones.
"""

from __future__ import annotations

import atexit
import functools
import json
import re
import shlex
import shutil
import tempfile
from pathlib import Path

import pytest
from pages import EXAMPLES, PAGES, ROOT, Command, commands, short
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylign.cli import main
from raylign.config.build import build
from raylign.config.schema import TinyModel
from raylign.contracts import RowGenerator
from raylign.data.rows import DataRow
from raylign.models.tiny import build_tiny_model
from raylign.sweeps.drive import _settings
from raylign.sweeps.space import Space

CONTEXT = 65_536
COMPOSED = ("train", "plan", "submit", "k8s render")


@functools.cache
def models() -> str:
    """A model that stands for every named one: with room for any context, and YES and NO one token each."""
    folder = build_tiny_model(TinyModel(hidden_size=32, layers=1, heads=2, kv_heads=1, context=CONTEXT))
    made = Path(tempfile.mkdtemp()) / "model"
    atexit.register(shutil.rmtree, made.parent, ignore_errors=True)
    shutil.copytree(folder, made)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["YES", "NO"])
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    for part in (model, tokenizer):
        part.save_pretrained(made)
    return str(made)


def row(number: int) -> dict[str, object]:
    """What stands for a row of any command: a question, its answer, a pair, a domain."""
    pair = {"chosen": f"{number + 1}", "rejected": f"{number}"}
    asked = {"question": f"{number}+1?", "prompt": f"{number}+1?", "answer": f"so #### {number + 1}"}
    return {**asked, **pair, "extra_info": {"opd_teacher": "math"}}


def annotated(toy: DataRow) -> dict[str, object]:
    """A dialogue of CM2's toy as a row of a file."""
    messages = [*toy.messages, *toy.meta["demonstration"]]
    return {"messages": messages, "tools": toy.tools, "checklist_list": toy.meta["checklists"]}


def choice(number: int) -> dict[str, object]:
    """A user's choice as a row of P-GenRM's file."""
    user, split = f"{number // 4}", "test" if number % 4 == 3 else "train"
    return {"user_id": user, "split": split, "context": "1+1?", "chosen": f"{number}", "rejected": f"not {number}"}


def instances(name: str) -> list[dict[str, object]]:
    """What stands for a gym's file of instances."""
    if name == "stories.json":
        told = {"new_surface": "a", "new_bottom": "b", "evaluation": [{"statement": "b", "score": 1}]}
        return [{"new_title": f"story {number}", **told} for number in range(471)]
    tests = [[number, 1, 1, 1] for number in range(538)]
    return [{"rule": "a + b + c + d", "test_case": test, "expected_result": sum(test)} for test in tests]


def filled(words: list[str], folder: Path) -> list[str]:
    """What the reader fills in: files and models become tiny local ones, `...` the tiny recipe."""
    data, held, dialogues = (folder / f"{name}.jsonl" for name in ("rows", "held", "dialogues"))
    for path, numbers in ((data, range(20)), (held, range(20, 30))):
        path.write_text("".join(json.dumps(row(number)) + "\n" for number in numbers))
    if any(word.startswith("data.generator.path=") for word in words):
        toys = build(RowGenerator, {"_target_": "raylign.recipes.cm2.toy.LookUps"}, "toy").rows(20, 0)
        shown = [choice(number) for number in range(200)] if "recipe=p_genrm" in words else map(annotated, toys)
        dialogues.write_text("".join(json.dumps(row) + "\n" for row in shown))
    for word in words:
        if word.startswith("environment.fn.path="):
            name = word.partition("=")[2]
            (folder / name).write_text(json.dumps(instances(name)))
    answers = {"data.path": data, "data.generator.path": dialogues, "run.dir": folder / "run"}
    answers |= {"sweep.dir": folder / "sweep", "data.eval_path": held}
    stage_data = {word.partition("=")[0] for word in words if re.match(r"stages\.\w+\.data=[^'\"@]", word)}
    answers |= dict.fromkeys(stage_data, data)
    command: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if word in ("...", "…"):
            command += ["recipe=grpo", "scale=tiny"]
        elif equals and key in answers and value and not value.startswith("nothere"):
            command.append(f"{key}={answers[key]}")
        elif (equals and key.endswith("model.path")) or (key.endswith(".path") and "/" in value):
            command.append(f"{key}={models()}")
        else:
            command.append(re.sub(r"path: [\w.-]+/[\w.-]+", f"path: {models()}", word))
    return command


def test_refusals_are_shown_as_such() -> None:
    assert [command.refused for command in commands() if "nothere.jsonl" in command.rest] == [True]


def test_there_are_commands_of_every_card_and_page() -> None:
    listed = commands()
    assert len(listed) >= 60
    for path in sorted((ROOT / "conf" / "recipe").glob("*.yaml")):
        assert any(f"recipe={path.stem}" in command.rest for command in listed), path.stem
    printing = [page for page in PAGES if "raylign train" in page.read_text()]
    assert {short(page) for page in printing} <= {command.place.split(": ")[0] for command in listed}


@pytest.mark.parametrize(  # one that several pages print, once
    "command",
    {(c.verb, c.rest): c for c in commands() if c.verb in COMPOSED}.values(),
    ids=lambda command: command.place,
)
def test_a_documented_command_can_be_planned(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
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
    if not overrides:
        return  # an option is named, not a command; see the next test
    status = main(["plan", "--no-fit", *overrides])
    assert status == (2 if command.refused else 0), capsys.readouterr().err


@pytest.mark.parametrize("verb", ["train", "plan", "submit", "k8s", "view", "recipes", "export", "doctor"])
def test_documented_options_are_those_of_the_command(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", capsys.readouterr().out))
    named = {
        option
        for command in commands()
        if command.verb.split()[0] == verb
        for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*(?![\w.=\[])", re.sub(r"'[^']*'", "", command.rest))
    }
    assert named <= known, named - known


@pytest.mark.parametrize("command", [c for c in commands() if c.verb == "recipes" and c.rest], ids=lambda c: c.place)
def test_a_documented_card_is_printed(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    name = command.rest.split()[0]
    assert main(["recipes", "grpo" if name == "NAME" else name]) == 0 and capsys.readouterr().out
