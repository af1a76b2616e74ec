"""Rows of a rule's own making, what strategies measure over a set, and views that are asked more than prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from stage_run import finished, lines, stopped

from raylign.config.schema import DataConfig
from raylign.contracts import RolloutTask, View
from raylign.data.prompts import load_prompts
from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.recipes.checks import check
from raylign.recipes.stages.keep import Keep, Kept
from raylign.records import Group, Prompt, Trajectory
from raylign.testing import FakeRollouts, tiny_run, trajectory

OWN = f"run.allow_targets=[{__name__.partition('.')[0]}.]"


def made(**settings: Any) -> str:
    fields = ", ".join(f"{name}: {value}" for name, value in {"batch_prompts": 4, "weights": "{}", **settings}.items())
    return f"+stages.made={{_target_: raylign.recipes.stages.generate.Generate, {fields}}}"


class Summaries(Keep):
    """The problem that a sample states in its payload, as a row."""

    @dataclass
    class Config:
        """Ways to go wrong, too."""

        prompt: bool = False  # made of the prompt
        rejected: int | None = None
        role: str = "user"

    def keep(self, group: Group, usable: Sequence[int]) -> list[Kept]:
        """See `Keep.keep`."""
        return [self._kept(group, index) for index in usable if "states" in group.trajectories[index].payload]

    def _kept(self, group: Group, index: int) -> Kept:
        stated = group.trajectories[index].payload["states"]
        message = {"role": self.config.role, "content": stated["question"]}
        row = DataRow(
            messages=(message,),
            place=group.prompt.place,
            answer=stated["answer"],
            verifier="exact",
            meta={"generated": "nowhere", "of": group.prompt.id},
            complete=True,
        )
        return Kept(None if self.config.prompt else index, rejected=self.config.rejected, row=row)


def states(task: RolloutTask, index: int) -> Trajectory:
    """A problem of every prompt whose number three does not divide; in several calls, which make no target."""
    number = int(task.prompt.messages[-1]["content"].split()[-1])
    payload = {"states": {"question": f"double {number}", "answer": str(2 * number)}} if number % 3 else {}
    return replace(trajectory("a", "b"), payload=payload, metrics={"stated": float(bool(payload)), "tries": 2.0})


def keep(**settings: Any) -> str:
    fields = "".join(f", {name}: {value}" for name, value in settings.items())
    return made(keep=f"{{_target_: {__name__}.Summaries{fields}}}")


async def test_a_rule_writes_rows_of_its_own_which_say_where_they_come_from(tmp_path: Path, data: str) -> None:
    context, results = await finished(tmp_path / "run", data, OWN, keep(), rewards={}, rollouts=FakeRollouts(states))
    path = results["made"].artifacts["rows"]
    asked = {prompt.id: prompt for prompt in context.unviewed.train}
    rows = lines(path)
    assert rows and len(rows) == results["made"].metrics["generate/rows"]
    for row in rows:
        number = asked[row["meta"]["of"]].meta["level"]
        assert (row["messages"][0]["content"], row["answer"]) == (f"double {number}", str(2 * number))
        origin = row["meta"]["generated"]
        assert (origin["stage"], origin["from"], origin["model"]) == ("made", "sample", "the-start")
        assert origin["prompt"] == f"{row['meta']['of']}#0" and origin["sample"] == 0 and origin["seed"]
        assert "target" not in row, "what the sample said is no part of the row"
    prompts = load_prompts(DataConfig(path=path, holdout=0, template="not {prompt}"), context.template, 1).train
    assert [prompt.messages[-1]["content"] for prompt in prompts] == [row["messages"][0]["content"] for row in rows]
    _, results = await finished(
        tmp_path / "of", data, OWN, keep(prompt="true"), rewards={}, rollouts=FakeRollouts(states)
    )
    for row in lines(results["made"].artifacts["rows"]):
        assert row["meta"]["generated"] == {"stage": "made", "from": "prompt", "prompt": f"{row['meta']['of']}#0"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rejected": 0}, r"stages\.made\.keep makes a row of its own and names a rejected sample; fix: put"),
        ({"role": "narrator"}, r"row 1 .*is no message with the role system, user"),
    ],
)
async def test_a_row_that_no_reader_takes_is_refused(
    tmp_path: Path, data: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        await finished(tmp_path / "run", data, OWN, keep(**settings), rewards={}, rollouts=FakeRollouts(states))


async def test_what_a_strategy_measures_is_counted_over_the_whole_set(tmp_path: Path, data: str) -> None:
    fakes: Any = {"rewards": {}, "rollouts": FakeRollouts(states)}
    _, whole = await finished(tmp_path / "whole", data, OWN, keep(), **fakes)
    steps, metrics = lines(tmp_path / "whole/metrics.jsonl"), whole["made"].metrics
    assert metrics["tries"] == 2.0 and 0 < metrics["stated"] == metrics["generate/kept"] < 1
    stated = sum(step["stated"] * step["generate/prompts"] for step in steps)
    assert stated == pytest.approx(metrics["generate/rows"]), "of every batch its own share"
    await stopped(tmp_path / "again", data, OWN, keep(), stop_after=2, **fakes)
    _, again = await finished(tmp_path / "again", data, OWN, keep(), **fakes)
    assert again["made"].metrics == metrics
    rows = [Path(results["made"].artifacts["rows"]).read_bytes() for results in (whole, again)]
    assert rows[0] == rows[1]
    silent = FakeRollouts(lambda task, index: replace(trajectory("a", "b"), metrics={"stated": 0.0, "tries": 2.0}))
    with pytest.raises(
        DataError,
        match=r"keeps nothing of 10 prompts \(10 samples, 0 of them .* limit or within a thought, tries 2\); fix",
    ):
        await finished(tmp_path / "none", data, OWN, keep(), rewards={}, rollouts=silent)


class Interview(View):
    """As the prompts are, for a strategy that asks far more."""

    @dataclass
    class Config:
        """Tokens of the questions, and rows that it cannot do without."""

        least: int = 10
        most: int = 500
        rows: int = 1

    def __init__(self, config: Any, tokenizer: Any, seed: int) -> None:
        super().__init__(config)

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """As they are."""
        if len(prompts) < self.config.rows:
            raise DataError(f"{self.config.rows} rows are asked for and there are {len(prompts)}")
        return list(prompts)

    def questions(self, prompts: Sequence[Prompt]) -> tuple[int, int]:
        """As set."""
        return self.config.least, self.config.most


def view(**settings: Any) -> str:
    return f"{{_target_: {__name__}.Interview, {', '.join(f'{name}: {value}' for name, value in settings.items())}}}"


async def test_a_view_whose_questions_leave_no_room_for_a_reply_is_refused_where_the_run_is_opened(
    tmp_path: Path, data: str, tiny_model: Path
) -> None:
    room = ["model.max_context=128", "data.max_prompt_tokens=32", "rollout.sampling.max_tokens=24"]
    stage = made(view=view(least=105, most=500))
    message = (
        r"^model\.max_context = 128: the questions of stages\.made take 105 to 500 tokens, and a reply up to 24 "
        r"\(rollout\.sampling\.max_tokens\); fix: model\.max_context=524 and a model\.path that has them"
    )
    others = [f"~stages.{name}" for name in ("warmup", "before", "rl", "after")]
    run = tiny_run(*others, data, OWN, *room, f"run.dir={tmp_path / 'run'}", f"model.path={tiny_model}", stage)
    with pytest.raises(DataError, match=message):
        check(run)
    rollouts = FakeRollouts(states)
    with pytest.raises(DataError, match=r"\(stages\.made\.sampling\.max_tokens\); fix: model\.max_context=525"):
        own = made(view=view(least=105, most=500), sampling="{max_tokens: 25}")
        await finished(tmp_path / "own", data, OWN, *room, own, rewards={}, rollouts=rollouts)
    assert not rollouts.asked
    fits = made(view=view(least=104, most=500), keep=f"{{_target_: {__name__}.Summaries}}")
    _, results = await finished(tmp_path / "fits", data, OWN, *room, fits, rewards={}, rollouts=rollouts)
    assert results["made"].metrics["generate/rows"] and rollouts.asked, (
        "the shortest fits: the others fail by themselves"
    )


async def test_a_view_need_not_take_held_out_prompts_that_no_stage_asks(tmp_path: Path, data: str) -> None:
    fakes: Any = {"rewards": {}, "rollouts": FakeRollouts(states)}  # 10 rows, and 2 held out
    rule = f"{{_target_: {__name__}.Summaries}}"
    await finished(tmp_path / "train", data, OWN, made(view=view(rows=5), keep=rule), **fakes)
    with pytest.raises(DataError, match="5 rows are asked for and there are 2"):
        await finished(tmp_path / "held", data, OWN, made(view=view(rows=5), keep=rule, split="holdout"), **fakes)
    await finished(tmp_path / "both", data, OWN, made(view=view(rows=2), keep=rule, split="holdout"), **fakes)
