"""Collect, Calibrate and Fit over fakes: what they leave, that a killed one leaves the same, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from stage_run import finished, lines, stopped

from raylign.cli.stage_table import stage_table, tokens_at_most
from raylign.contracts import Estimator, PlacedRow, RolloutTask
from raylign.data.source import DatasetSource
from raylign.errors import CheckpointError, ConfigError, DataError, RewardError, RunError
from raylign.loop.part_state import restore_part
from raylign.plan import make_plan
from raylign.records import Group, Missing, Prompt, Trajectory
from raylign.testing import FakeRollouts, prompt, tiny_run, trajectory

STAGES = "raylign.recipes.stages"
MINE = f"run.allow_targets=[{__name__.partition('.')[0]}.]"
HERE = __name__


class Tallying(DatasetSource):
    """Remembers the score of everything that it observed: a small state and a large one."""

    @dataclass
    class Config(DatasetSource.Config):
        """Nothing more."""

    def __init__(self, config: Any, **made_with: Any) -> None:
        super().__init__(config, **made_with)
        self.seen, self.scores = 0, np.zeros(0)

    def observe(self, groups: Sequence[Group]) -> None:
        self.seen += len(groups)
        self.scores = np.append(self.scores, [s for group in groups for s in group.scores if s is not None])

    def metrics(self) -> dict[str, float]:
        return {"seen": float(self.seen), "mean": float(self.scores.mean())}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({name: value for name, value in state.items() if name != "seen"})
        self.seen = state["seen"]

    def save(self, folder: Path) -> None:
        np.save(folder / "scores.npy", self.scores)

    def restore(self, folder: Path) -> None:
        self.scores = np.load(folder / "scores.npy")


def even(prompt: Prompt, said: Trajectory) -> float:
    return float(said.seed % 2 == 0)


COLLECT = (
    f"+stages.explore={{_target_: {STAGES}.collect.Collect, steps: 4, prompts_per_step: 3, group_size: 2, "
    f"source: {{_target_: {HERE}.Tallying}}}}"
)


async def test_collecting_observes_and_leaves_rows_and_the_sources_state(tmp_path: Path, data: str) -> None:
    talk = FakeRollouts(lambda task, index: trajectory("first", "second") if index else "only")
    fakes: Any = {"rewards": {"correct": even}, "rollouts": talk}
    context, results = await finished(tmp_path / "whole", data, MINE, COLLECT, **fakes)
    rows = lines(results["explore"].artifacts["rows"])
    assert len(rows) == 4 * 3 * 2 and [row["meta"]["generated"]["sample"] for row in rows] == [0, 1] * 12
    assert [row.get("target") for row in rows[:2]] == ["only", None], "two calls are no single target"
    assert rows[1]["meta"]["generated"]["calls"] == ["first", "second"] and rows[0]["meta"]["level"] in range(12)
    scores = [row["meta"]["generated"]["score"] for row in rows]
    assert results["explore"].metrics["source/mean"] == pytest.approx(np.mean(scores))
    source = Tallying(Tallying.Config(), prompts=context.prompts.train, seed=1)
    restore_part(Path(results["explore"].artifacts["source"]), source)
    assert source.seen == 12 and source.scores.tolist() == scores
    # killed after three steps, of which two are saved
    again = tmp_path / "again"
    await stopped(again, data, MINE, COLLECT, "run.save_every=2", stop_after=2, **fakes)
    _, resumed = await finished(again, data, MINE, COLLECT, "run.save_every=2", **fakes)
    left = [Path(results["explore"].artifacts["rows"]), Path(resumed["explore"].artifacts["rows"])]
    assert left[0].read_bytes() == left[1].read_bytes()
    for name in ("state.json", "files/part/scores.npy"):
        folders = [Path(each["explore"].artifacts["source"]) for each in (results, resumed)]
        assert [path for path in folders[0].rglob("*") if path.is_file()]
        assert _files(folders[0]) == _files(folders[1]), name
    assert resumed["explore"].metrics == results["explore"].metrics


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_state_that_is_none_is_refused(tmp_path: Path) -> None:
    source = DatasetSource(DatasetSource.Config(), prompts=[prompt()], seed=1)
    with pytest.raises(CheckpointError, match="holds no state of a part"):
        restore_part(tmp_path, source)


CALIBRATE = f"+stages.calibrate={{_target_: {STAGES}.calibrate.Calibrate, samples: 4, batch_prompts: 4}}"


async def test_statistics_are_those_of_every_value_that_was_measured(tmp_path: Path, data: str) -> None:
    values: list[float] = []

    def length(asked: Prompt, said: Trajectory) -> Any:
        if said.sample_index == 3 and asked.meta["level"] == 4:
            return Missing(reason="timeout")
        value = said.seed % 1000 / 7
        values.append(value)
        return value

    fakes: Any = {"rewards": {"correct": length}}
    keys = "data.domain_key=domain"
    _, results = await finished(tmp_path / "whole", data, keys, CALIBRATE, **fakes)
    found = orjson.loads(Path(results["calibrate"].artifacts["statistics"]).read_bytes())
    of = found["rewards"]["correct"]
    measured = np.array(values)
    assert (found["prompts"], found["samples"], found["model"]) == (10, 4, "the-start")
    assert of["count"] == len(values) and of["count"] + of["missing"] == 40 and of["absent"] == 0
    assert (of["mean"], of["std"]) == pytest.approx((measured.mean(), measured.std()))
    assert of["quantiles"]["0.5"] == pytest.approx(np.median(measured)) and of["quantiles"]["1"] == measured.max()
    assert set(of["domains"]) == {"a", "b"}
    assert sum(domain["count"] for domain in of["domains"].values()) == of["count"]
    await stopped(tmp_path / "again", data, keys, CALIBRATE, stop_after=1, **fakes)
    _, again = await finished(tmp_path / "again", data, keys, CALIBRATE, **fakes)
    paths = [Path(each["calibrate"].artifacts["statistics"]) for each in (results, again)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


async def test_a_reward_that_is_never_measured_has_no_statistics(tmp_path: Path, data: str) -> None:
    lost = {"correct": lambda asked, said: Missing(reason="the judge is gone")}
    with pytest.raises(RewardError, match="the judge is gone"):
        await finished(tmp_path / "a", data, CALIBRATE, rewards=lost)
    with pytest.raises(RewardError, match=r"reward correct was never measured \(.*the judge is gone"):
        await finished(tmp_path / "b", data, CALIBRATE, "rewards.correct.max_missing=1", rewards=lost)


class Mean(Estimator):
    """The mean of a column."""

    @dataclass
    class Config:
        """Which, and how it misbehaves."""

        column: str = "level"
        metric: str = "0.5"
        writes: bool = True

    def fit(self, rows: Sequence[PlacedRow], seed: int) -> Mapping[str, float]:
        for row in rows:
            if self.config.column not in row.columns:
                raise DataError(f"{row.place}: no column {self.config.column}")
        self.mean = float(np.mean([row.columns[self.config.column] for row in rows]))
        return {"metric": float(self.config.metric)}

    def save(self, folder: Path) -> None:
        if self.config.writes:
            (folder / "mean.json").write_bytes(orjson.dumps(self.mean))

    def load(self, folder: Path) -> None:
        self.mean = orjson.loads((folder / "mean.json").read_bytes())


def fit(**settings: Any) -> str:
    fields = ", ".join(f"{name}: {value}" for name, value in settings.items())
    return f"+stages.fit={{_target_: {STAGES}.fit.Fit, estimator: {{_target_: {HERE}.Mean, {fields}}}}}"


async def test_an_estimator_is_fitted_to_the_rows_of_a_file_and_saved(tmp_path: Path, data: str) -> None:
    _, results = await finished(tmp_path / "run", data, MINE, fit(column="level"), rewards={})
    again = Mean(Mean.Config())
    again.load(Path(results["fit"].artifacts["fitted"]))
    assert again.mean == 5.5 and results["fit"].metrics == {"fit/metric": 0.5, "fit/rows": 12.0}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"column": "clicks"}, DataError, r"rows.jsonl:1: no column clicks"),
        ({"metric": "'nan'"}, RunError, "fit/metric is nan"),
        ({"writes": "false"}, RunError, r"Mean.save wrote nothing"),
    ],
)
async def test_a_fit_that_came_to_nothing_is_refused(
    settings: dict[str, Any], error: type[Exception], message: str, tmp_path: Path, data: str
) -> None:
    with pytest.raises(error, match=message):
        await finished(tmp_path / "run", data, MINE, fit(**settings), rewards={})
    assert not (tmp_path / "run/stages/fit/fitted").exists()


async def test_rows_of_a_stage_reach_an_estimator_whole(tmp_path: Path, data: str) -> None:
    generate = f"+stages.made={{_target_: {STAGES}.generate.Generate}}"
    node = "{_target_: raylign.actors.reward.ngrams.NgramClassifier, longest: 2, buckets: 64}"
    classify = f"+stages.fit={{_target_: {STAGES}.fit.Fit, data: '@made', estimator: {node}}}"

    def says(task: RolloutTask, index: int) -> str:
        return "good morning" if task.prompt.meta["level"] % 2 else "bad evening"

    def polite(asked: Prompt, said: Trajectory) -> float:
        return float("good" in said.text)

    fakes: Any = {"rewards": {"correct": polite}, "rollouts": FakeRollouts(says)}
    _, results = await finished(tmp_path / "run", data, generate, classify, **fakes)
    assert results["fit"].metrics["fit/accuracy"] == 1.0 and results["fit"].metrics["fit/labelled"] == 10.0


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([f"+stages.fit={{_target_: {STAGES}.fit.Fit}}"], "there is nothing to fit"),
        ([f"+stages.c={{_target_: {STAGES}.collect.Collect, steps: 0}}"], "steps"),
        ([f"+stages.c={{_target_: {STAGES}.collect.Collect, greedy: true, group_size: 2}}"], "are all the same"),
        ([f"+stages.c={{_target_: {STAGES}.calibrate.Calibrate, samples: 0}}"], "samples must be at least 1"),
        (
            [
                f"+stages.c={{_target_: {STAGES}.collect.Collect}}",
                f"+stages.g={{_target_: {STAGES}.generate.Generate, data: '@c/sets'}}",
            ],
            "is none of what the stage leaves: @c/rows, @c/source",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_a_run(stages: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_run(*[f"~stages.{name}" for name in ("warmup", "before", "rl", "after")], *stages)


def test_only_the_actors_that_a_stage_asks_are_planned() -> None:
    others = [f"~stages.{name}" for name in ("warmup", "before", "rl", "after")]
    collect, calibrate = (
        f"+stages.c={{_target_: {STAGES}.{name}}}" for name in ("collect.Collect", "calibrate.Calibrate")
    )
    generate = f"+stages.c={{_target_: {STAGES}.generate.Generate, by: teacher}}"
    for stage in (collect, calibrate):
        assert [role.name for role in make_plan(tiny_run(*others, stage)).roles] == ["rollout", "reward/correct"]
    served = make_plan(tiny_run(*others, generate, "judges.teacher={gpus: 0}"))
    assert [role.name for role in served.roles] == ["judge/teacher", "reward/correct"]


def test_the_plan_says_of_every_stage_what_it_asks_and_leaves() -> None:
    others = [f"~stages.{name}" for name in ("warmup", "before", "rl", "after")]
    names = (
        "collect.Collect, steps: 5",
        "calibrate.Calibrate, sampling: {max_tokens: 2}",
        "generate.Generate, samples: 3",
    )
    stages = [f"+stages.s{number}={{_target_: {STAGES}.{name}}}" for number, name in enumerate(names)]
    tiny = tiny_run(
        *others, *stages, "+stages.learn={_target_: raylign.recipes.stages.rl.Rl, steps: 2, prompts_per_step: 4}"
    )
    tokens = {stage.name: tokens_at_most(stage, tiny) for stage in tiny.stages}
    asked, answer = tiny.config.data.max_prompt_tokens, tiny.config.rollout.sampling.max_tokens
    assert tokens["s0"] == f"{320 * (asked + answer):,}" and tokens["s1"] == f"{512 * 8 * (asked + 2):,}"
    assert tokens["s2"] == f"{3 * (asked + answer):,} a prompt" and tokens["learn"] == f"{8 * 8 * (asked + answer):,}"
    rows = {row.split()[0]: row for row in stage_table(tiny).splitlines()[2:]}
    assert "64 prompts x 1" in rows["s0"] and rows["s0"].split()[-2:] == ["rows,", "source"]
    assert "rewards, rollout" in rows["s1"] and rows["s1"].split()[-1] == "statistics"
