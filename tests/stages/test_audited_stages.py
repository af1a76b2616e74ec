"""Stages that are audited, over fakes: what is recorded, what is told, and that a killed one goes on alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stage_run import finished, lines, stopped

from raylign.records import Missing, Prompt, Trajectory
from raylign.telemetry.recorder import read_lines

STAGES = "raylign.recipes.stages"
GRADED = (
    "+audit.graders.judge.fn._target_=raylign.actors.reward.exact.ExactMatch",
    "audit.share=0.5",
    "audit.exploit.start_samples=8",
)
EVALUATE = f"+stages.look={{_target_: {STAGES}.evaluate.Evaluate, split: train, samples: 2, greedy: false}}"
COLLECT = f"+stages.explore={{_target_: {STAGES}.collect.Collect, steps: 8, prompts_per_step: 4, group_size: 2}}"


def even(prompt: Prompt, said: Trajectory) -> float:
    return float(said.seed % 2 == 0)


def third(prompt: Prompt, said: Trajectory) -> float:
    return float(said.seed % 3 == 0)


def recorded(folder: Path, stage: str) -> list[dict[str, Any]]:
    rows = [row for path in sorted((folder / "rollouts").glob("*.jsonl")) for row in read_lines(path)]
    return [row for row in rows if row["stage"] == stage]


async def test_an_evaluation_is_graded(tmp_path: Path, data: str) -> None:
    fakes: Any = {"rewards": {"correct": even}, "graders": {"judge": third}}
    _, results = await finished(tmp_path / "run", data, EVALUATE, *GRADED, **fakes)
    metrics, rows = results["look"].metrics, recorded(tmp_path / "run", "look")
    grades = [row["rewards"]["audit/judge"]["score"] for row in rows if "audit/judge" in row["rewards"]]
    assert metrics["eval/audit/samples"] == len(grades) == len(rows) / 2 and metrics["eval/audit/share"] == 0.5
    assert metrics["eval/audit/grade/judge"] == sum(grades) / len(grades)
    assert not [name for name in metrics if "exploit" in name], "one evaluation has no start to be judged by"
    _, plain = await finished(tmp_path / "plain", data, EVALUATE, **fakes)
    unaudited = {name: value for name, value in metrics.items() if not name.startswith("eval/audit/")}
    assert plain["look"].metrics == unaudited, "nothing else is changed by it"


async def test_collecting_is_audited_and_a_killed_one_goes_on_alike(tmp_path: Path, data: str) -> None:
    fakes: Any = {"rewards": {"correct": even}, "graders": {"judge": third}}
    _, whole = await finished(tmp_path / "whole", data, COLLECT, *GRADED, **fakes)
    again = tmp_path / "again"
    await stopped(again, data, COLLECT, *GRADED, "run.save_every=1", stop_after=4, **fakes)
    _, resumed = await finished(again, data, COLLECT, *GRADED, "run.save_every=1", **fakes)
    assert resumed["explore"].metrics == whole["explore"].metrics
    assert whole["explore"].metrics["audit/share"] == 0.5
    told = [
        [event for event in read_lines(folder / "events.jsonl") if event["kind"].startswith(("audit", "exploit"))]
        for folder in (tmp_path / "whole", again)
    ]
    kinds = [[(event["kind"], event["grader"], event["stage_step"]) for event in each] for each in told]
    assert kinds[0] == kinds[1] and kinds[0][0] == ("audit_start", "judge", 2)
    assert lines(whole["explore"].artifacts["rows"]) == lines(resumed["explore"].artifacts["rows"])
    assert not any("audit" in line for line in lines(whole["explore"].artifacts["rows"])), "no row knows of a grade"


async def test_a_grader_that_fails_ends_no_stage(tmp_path: Path, data: str) -> None:
    fakes: Any = {"rewards": {"correct": even}, "graders": {"judge": lambda asked, said: Missing(reason="gone")}}
    _, results = await finished(tmp_path / "run", data, EVALUATE, COLLECT, *GRADED, **fakes)
    assert results["look"].metrics["eval/audit/missing/judge"] == 1.0
    assert results["explore"].metrics["audit/missing/judge"] == 1.0
    alarms = [event for event in read_lines(tmp_path / "run" / "events.jsonl") if event["kind"] == "alarm"]
    assert [(alarm["stage"], alarm["alarm"]) for alarm in alarms] == [("explore", "audit_blind")]
