"""What `raylign train` refuses before it starts anything, `raylign plan` refuses in the same words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raylign.cli import main
from raylign.run_folder import RunFolder

GRPO, SFT, HYPO = (
    ("recipe=grpo", "scale=tiny", "~stages.warmup"),
    ("recipe=sft", "scale=tiny"),
    ("recipe=hypo", "scale=tiny"),
)
ANSWER = {"role": "assistant", "content": "1"}
ROWS: dict[str, list[dict[str, Any]]] = {
    "sums": [{"prompt": f"{i}+1?", "solution": str(i + 1)} for i in range(20)],
    "talks": [
        {"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "1"}]} for i in range(20)
    ],
    "asked": [{"messages": [{"role": "user", "content": f"{i}?"}], "solution": str(i)} for i in range(20)],
    "towns": [{"prompt": f"{i}?", "solution": ["Paris", "Rome"][i % 2]} for i in range(20)],
    "plain": [{"task": f"{i}?", "gold": str(i)} for i in range(20)],
    "long": [{"prompt": "x" * 300 + str(i), "solution": str(i)} for i in range(20)],
    "pairs": [{"prompt": f"{i}?", "chosen": "yes", "rejected": "no"} for i in range(20)],
    "even": [{"prompt": f"{i}?", "chosen": "yes", "rejected": "yes"} for i in range(20)],
    "one": [{"prompt": "1?", "solution": "1"}],
    "null": [{"prompt": "1?", "solution": "1"}, {"prompt": None, "solution": "2"}],
    "system": [{"prompt": [{"role": "robot", "content": "1?"}], "solution": "1"}] * 2,
}
FAULTY = [  # recipe, rows, settings, words of the message
    (GRPO, "talks", (), "talks.jsonl:1: no gold answer to judge by; fix: name its column with data.answer_key"),
    (GRPO, "towns", (), "set data.verifier=exact"),
    (GRPO, "plain", (), "plain.jsonl:1: no known format has these columns: task, gold"),
    (GRPO, "long", (), "fix: set data.max_prompt_tokens=304"),
    (GRPO, "sums", ("data.holdout=20",), "20 of 20 prompts leaves none to train on; fix: set data.holdout=2"),
    (GRPO, "sums", ("data.verifier=math",), "did you mean boxed_math?"),
    (GRPO, "sums", ("data.answer_key=gold",), "sums.jsonl:1: no column 'gold'; columns present: prompt, solution"),
    (GRPO, "sums", ("stages.rl.domains=[code]",), "stages.rl.domains=['code'] leaves no training prompt"),
    (GRPO, "sums", ("data.template='{what}'",), "sums.jsonl:1: the template '{what}' cannot be filled"),
    (GRPO, "one", (), "stages.before: one.jsonl leaves no prompt to evaluate on (holdout); fix: set data.eval_path"),
    (GRPO, "null", (), "null.jsonl:2: the prompt is null"),
    (GRPO, "sums", ("shaper.overlong_buffer=500",), "500: exceeds rollout.sampling.max_tokens=8"),
    (GRPO, "", ("data.generator={_target_: raylign.recipes.hypo.LetterPairs}",), "only one of them makes the rows"),
    (("recipe=grpo", "scale=tiny"), "sums", (), "fix: name the column that holds it"),
    (SFT, "sums", (), "or leave the stage out (~stages.sft)"),
    (SFT, "plain", ("data.prompt_key=task", "data.answer_key=god"), "no column 'god'"),
    (HYPO, "sums", (), "sums.jsonl:1: a pair needs columns chosen and rejected"),
    (HYPO, "even", (), "none of 20 rows makes a pair"),
    (HYPO, "pairs", ("data.holdout=1000",), "1000 of 20 pairs leaves none to train on; fix: set data.holdout=2"),
    (HYPO, "pairs", ("~stages.sft",), "set stages.preference.start="),
    (HYPO, "pairs", ("~stages.reference",), "set frozen.reference.path="),
    (HYPO, "pairs", ("frozen.reference.path=@preference",), "names no stage before stages.preference, which needs it"),
    (("recipe=grpo",), "sums", (), "scale = absent"),
]  # fmt: skip
SOUND = [
    (GRPO, "sums", ()),
    (GRPO, "asked", ()),
    (GRPO, "plain", ("data.prompt_key=task", "data.answer_key=gold")),
    (SFT, "talks", ()),
    (SFT, "plain", ("data.prompt_key=task", "data.answer_key=gold")),
    (HYPO, "pairs", ()),
    (HYPO, "pairs", ("~stages.sft", "~stages.reference", "stages.preference.start=", "frozen.reference.path=")),
]


@pytest.fixture(autouse=True)
def _nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, rows in ROWS.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)

    def begun(*_: Any) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr(RunFolder, "open", begun)


def told(command: str, overrides: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    options = ["--no-fit"] if command == "plan" else []
    assert main([command, *options, *overrides]) == 2
    return capsys.readouterr().err.removeprefix(f"raylign {command}: ")


@pytest.mark.parametrize(("recipe", "rows", "settings", "words"), FAULTY, ids=lambda value: str(value)[-50:])
def test_plan_says_what_train_would(
    recipe: tuple[str, ...], rows: str, settings: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*recipe, *([f"data.path={rows}.jsonl"] if rows else []), *settings]
    planned = told("plan", overrides, capsys)
    assert words in planned and planned == told("train", overrides, capsys)
    assert len(planned.splitlines()) == 1 or "problem(s) in the configuration" in planned


@pytest.mark.parametrize(("recipe", "rows", "settings"), SOUND, ids=lambda value: str(value)[-50:])
def test_own_rows_work_at_the_first_try(
    recipe: tuple[str, ...], rows: str, settings: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*recipe, f"data.path={rows}.jsonl", *settings]
    assert main(["plan", "--no-fit", *overrides]) == 0
    out = capsys.readouterr().out
    assert f"{rows}.jsonl" in out and "18 train, 2 held out" in out
    assert ("verifier: boxed_math 18" in out) == (recipe is GRPO), "told where it judges"
    with pytest.raises(AssertionError, match="work began"):
        main(["train", *overrides])


def test_the_table_has_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--no-fit", *HYPO]) == 0
    _, _, shown = capsys.readouterr().out.partition("stages, in this order")
    lines = [line.split() for line in shown.splitlines()]
    stages = [line[:3] for line in lines if line[1:2] == ["Preference"]]
    assert [line[0] for line in stages] == ["sft", "reference", "preference"] and stages[2][2] == "@sft"
