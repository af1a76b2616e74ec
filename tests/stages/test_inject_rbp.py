"""The whole recipe over a simulated reasoner that thinks by habit, or by the plan that it is shown; no engine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import stage_run
from stage_run import finished, lines, stopped

from raylign.config.compose import recipes
from raylign.contracts import RolloutTask
from raylign.errors import DataError, RunError
from raylign.recipes.inject_rbp.table import PatternTable
from raylign.recipes.inject_rbp.toy import SumReward, asked, habit, trace
from raylign.records import derive_seed
from raylign.testing import FakeRollouts

ARMS = ("none", "correct", "rlopt", "naive", "incorrect", "random", "cross")
SMALL = [
    "recipe=inject_rbp",
    "scale=tiny",
    "~stages.pretrain",
    "data.size=240",
    "data.holdout=100",
    "stages.history.samples=4",
    "stages.history.batch_prompts=16",
    "stages.fit.estimator.permutations=99",
    "telemetry.rollouts_per_step=1",
]
FEW = ("data.size=60", "data.holdout=20")


def reasons(task: RolloutTask, index: int) -> str:
    plan, _, question = task.prompt.messages[-1]["content"].rpartition("|")
    family, summands = asked(question)
    rng = np.random.default_rng(derive_seed(task.run_seed, task.prompt.key, index))
    return trace(family, summands, plan[1::2] or habit(family, rng), rng)


def overrides(*more: str, arms: tuple[str, ...] = ARMS, model: str | Path = "") -> list[str]:
    """Those of a small run with some of the arms, one sample of every question in each."""
    small = [*SMALL, f"stages.sealed.start={model or stage_run.MODEL.path}"]
    small += [f"stages.{arm}.samples=1" for arm in arms]
    small += [f"stages.{arm}.measures.behaviour.resamples=200" for arm in arms]
    return [*small, *(f"~stages.{arm}" for arm in ARMS if arm not in arms), *more]


def fakes() -> dict[str, Any]:
    return {"rewards": {"correct": SumReward(SumReward.Config())}, "rollouts": FakeRollouts(reasons), "whole": True}


async def test_the_arms_stand_in_their_order(tmp_path: Path) -> None:
    context, results = await finished(tmp_path / "run", *overrides(), **fakes())
    score = {arm: results[arm].metrics["eval/score"] for arm in ARMS}
    assert score["incorrect"] < score["none"] < score["correct"] < score["rlopt"], score
    assert score["rlopt"] > score["none"] + 0.3 and score["correct"] > score["cross"], score
    measured = {arm: results[arm].metrics for arm in ARMS}
    assert measured["rlopt"]["eval/behaviour/l1"] < 0.5 * measured["none"]["eval/behaviour/l1"]
    assert measured["rlopt"]["eval/behaviour/followed"] == 1 > measured["none"]["eval/behaviour/followed"]
    gain = score["rlopt"] - score["none"]
    assert measured["rlopt"]["eval/behaviour/gain"] == pytest.approx(gain)
    assert measured["rlopt"]["eval/behaviour/gain_low"] < gain < measured["rlopt"]["eval/behaviour/gain_high"]
    assert results["unchanged"].metrics == {"seal/unchanged": 1.0}
    fitted = results["fit"].metrics
    assert fitted["fit/families"] == 2 and fitted["fit/traces"] == 560 and fitted["fit/structured"] > 0.9
    assert fitted["fit/js/outcome"] > 0 and fitted["fit/p/outcome"] < 0.05
    assert 0 < fitted["fit/p/families/slips"] <= 1 and fitted["fit/js/families/slips"] > 0
    tables = orjson.loads((Path(results["fit"].artifacts["fitted"]) / "tables.json").read_bytes())
    assert {"all", "slips", "detours"} == set(tables) and "^^" in tables["slips"]["states"]
    chains = {arm: [row["injectant"]["chain"] for row in lines(results[arm].artifacts["behaviour"])] for arm in ARMS}
    assert all("C" not in chain[:-1] for of_arm in chains.values() for chain in of_arm)
    asked_of = {arm: {row["prompt"] for row in lines(results[arm].artifacts["behaviour"])} for arm in ARMS}
    assert len({frozenset(names) for names in asked_of.values()}) == 1, "all arms ask the same questions"
    seeds = {(task.prompt.key, task.run_seed) for task in context.fakes.rollouts.asked if task.n == 1}
    assert len(seeds) == 100, "with the same seeds"


async def test_a_run_that_is_stopped_injects_the_same(tmp_path: Path) -> None:
    few = overrides(*FEW, arms=("none", "correct"))
    _, whole = await finished(tmp_path / "whole", *few, **fakes())
    await stopped(tmp_path / "again", *few, stop_after=2, **fakes())
    _, again = await finished(tmp_path / "again", *few, **fakes())
    assert {name: result.metrics for name, result in whole.items()} == {
        name: result.metrics for name, result in again.items()
    }


async def test_a_question_of_the_history_is_not_evaluated(tmp_path: Path) -> None:
    """The history of another run, whose questions are those that are held out here."""
    few = overrides(*FEW, arms=("none",))
    _, results = await finished(
        tmp_path / "first", *overrides(*FEW, "stages.history.split=holdout", arms=()), **fakes()
    )
    fitted = results["fit"].artifacts["fitted"]
    with pytest.raises(DataError, match=r"20 of 20 questions are in the history.*their own answers would be injected"):
        await finished(tmp_path / "second", *few, f"stages.none.view.store={fitted}", **fakes())
    longer = "stages.none.view.history_questions=true"
    _, results = await finished(tmp_path / "third", *few, f"stages.none.view.store={fitted}", longer, **fakes())
    assert results["none"].metrics["eval/prompts"] == 20


async def test_a_history_grows_by_what_was_injected_into_it(tmp_path: Path) -> None:
    """The online variant: a second set, made under injection, and a table of both."""
    view = "{_target_: raylign.recipes.inject_rbp.Inject, store: '@fit', arm: rlopt, form: chain, block: '{chain}|',"
    view += " step: '{number}{letter}', between: '', history_questions: true}"
    second = f"+stages.more={{_target_: raylign.recipes.stages.generate.Generate, samples: 2, view: {view}}}"
    again = "+stages.refit={_target_: raylign.recipes.stages.fit.Fit, data: '@more', estimator: {after: '@fit', "
    again += "_target_: raylign.recipes.inject_rbp.PatternTable, behaviours: '${stages.fit.estimator.behaviours}'}}"
    few = overrides("~stages.unchanged", *FEW, arms=())
    _, results = await finished(tmp_path / "run", *few, second, again, **fakes())
    first, both = results["fit"].metrics, results["refit"].metrics
    assert (first["fit/traces"], both["fit/traces"]) == (40 * 4, 40 * 6) and both["fit/right"] > first["fit/right"]
    table = PatternTable.of(Path(results["refit"].artifacts["fitted"]))
    assert len(table.traces) == 240 and len({trace.asked for trace in table.traces}) == 40


async def test_a_model_that_changed_is_told(tmp_path: Path) -> None:
    model = shutil.copytree(stage_run.MODEL.path, tmp_path / "model")

    def changing(task: RolloutTask, index: int) -> str:
        (model / "generation_config.json").write_text("{}")
        return reasons(task, index)

    with pytest.raises(RunError, match=r"stages.unchanged: the model .* has the fingerprint .*, and had .* before"):
        await finished(
            tmp_path / "run",
            *overrides(*FEW, arms=(), model=model),
            rewards={"correct": SumReward(SumReward.Config())},
            rollouts=FakeRollouts(changing),
            whole=True,
        )


async def test_an_evaluation_of_arlcp_is_injected_into_by_overrides_alone(tmp_path: Path) -> None:
    """A thinker that verifies every other time, and always where it is shown the patterns of its right answers."""
    if "arlcp" not in recipes():
        pytest.skip("recipe arlcp is not installed")

    def thinks(task: RolloutTask, index: int) -> str:
        verifies = index % 2 == 0 or "Progression - Verification" in task.prompt.messages[-1]["content"]
        return f"Okay.\n\nNext, so.\n\n{'Wait, yes' if verifies else 'Then'}.\n\nSo far.</think>\\boxed{{1}}"

    fit = "data: '@history', estimator: {_target_: raylign.recipes.inject_rbp.PatternTable, by: ''}"
    view = "view: {_target_: raylign.recipes.inject_rbp.Inject, store: '@fit', arm: rlopt}"
    measure = "measures: {behaviour: {_target_: raylign.recipes.inject_rbp.Compliance}}"
    _, results = await finished(
        tmp_path / "run",
        *("recipe=arlcp", "scale=tiny", "data.size=40", "data.holdout=10", "model.max_context=2048"),
        *("model.tiny.context=2048", *(f"~stages.{name}" for name in ("sft", "before", "rl", "after"))),
        "+stages.history={_target_: raylign.recipes.stages.generate.Generate, samples: 4, truncated: true}",
        f"+stages.fit={{_target_: raylign.recipes.stages.fit.Fit, {fit}}}",
        f"+stages.injected={{_target_: raylign.recipes.stages.evaluate.Evaluate, {view}, {measure}}}",
        rewards={"correct": lambda prompt, said: float("Wait" in said.text)},
        rollouts=FakeRollouts(thinks),
        whole=True,
    )
    assert results["fit"].metrics["fit/right"] == 0.5 and results["fit"].metrics["fit/families"] == 1
    injected = results["injected"].metrics
    assert (
        injected["eval/score"] == 1 and injected["eval/behaviour/l1"] < 0.5 and injected["eval/behaviour/pooled"] == 0
    )
