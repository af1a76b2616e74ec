"""BAO through the command line: a teacher's episodes, imitated with their very ids, then penalties turn by turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from short_runs import lines, steps, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SMALL = [
    "recipe=bao",
    "scale=tiny",
    "seed=3",
    "~stages.before",
    "stages.teach.prompts=96",
    "stages.teach.samples=2",
    "stages.sft.steps=60",
    "stages.sft.batch_size=32",
    "stages.rl.steps=2",
    "stages.rl.prompts_per_step=4",
    "stages.rl.group_size=6",
    "stages.after.prompts=16",
    "shaper.effort=0.05",
    "shaper.gamma=0.8",
    "telemetry.progress=none",
    "telemetry.rollouts_per_step=0",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bao") / "run"
    train(folder, SMALL)
    return folder


def rows(folder: Path, stage: str) -> list[dict[str, Any]]:
    every = [row for path in sorted((folder / "rollouts").glob("*.jsonl")) for row in lines(path)]
    return [row for row in every if row["stage"] == stage]


def test_the_taught_rows_are_successes_that_show_no_instructions(run: Path) -> None:
    taught = lines(run / "stages" / "teach" / "rows.jsonl")
    assert len(taught) > 150 and all(len(row["messages"]) == 1 for row in taught)
    assert all(row["meta"]["demonstration"][-1]["content"].rpartition("!")[1] for row in taught)
    (figures,) = steps(run, "after")
    assert figures["eval/effort/episodes"] == 32 and 0 <= figures["eval/effort/ur"] <= 1
    table = lines(run / "stages" / "after" / "measures" / "effort.jsonl")
    assert [row["domain"] for row in table] == ["all", "function"]
    assert table[0]["ur"] == pytest.approx(figures["eval/effort/ur"])


def test_rewards_and_advantages_can_be_recomputed_from_the_run_folder(run: Path) -> None:
    """r' and its discounted sums from the flags on the calls; their comparison turn by turn."""
    sampled = rows(run, "rl")
    assert len(sampled) == 2 * 24
    groups: dict[tuple[int, str], list[tuple[list[float], list[float]]]] = {}
    for row in sampled:
        turns, earned = row["turns"], [turn["reward"] for turn in row["turns"]]
        user = [turn["flags"]["user"] for turn in turns]
        before = False
        for number, turn in enumerate(turns):
            earned[number] -= 0.05 * user[number] + 0.2 * (before and user[number])
            before = user[number] if turn["flags"]["valid"] else before
        completed = max(sum(turn["flags"]["valid"] for turn in turns), 1)
        if not turns[-1]["flags"]["success"]:
            earned[-1] -= min(0.1 * (15 - completed) / completed, 1.0)
        assert row["score"] == pytest.approx(sum(earned), abs=1e-5)
        to_go = [sum(0.8 ** (k - t) * earned[k] for k in range(t, len(earned))) for t in range(len(earned))]
        advantage = row["advantage"]
        every = advantage if isinstance(advantage, list) else [advantage] * sum(len(t["token_ids"]) for t in turns)
        ends = np.cumsum([len(turn["token_ids"]) for turn in turns])
        assert all(len(set(part)) <= 1 for part in map(list, np.split(np.array(every), ends[:-1])))
        groups.setdefault((row["step"], row["prompt"]), []).append((to_go, [every[end - 1] for end in ends]))
    moved = 0
    for members in groups.values():
        for turn in range(max(len(to_go) for to_go, _ in members)):
            there = [(to_go[turn], given[turn]) for to_go, given in members if len(to_go) > turn]
            scores = np.array([score for score, _ in there])
            std = scores.std(ddof=1) if len(scores) > 1 else 0.0
            wanted = (scores - scores.mean()) / (std + 1e-6) if std > 1e-6 else np.zeros(len(scores))
            np.testing.assert_allclose([given for _, given in there], wanted, atol=1e-3)
            moved += bool(wanted.any())
    assert moved, "nothing to learn from"


def test_every_figure_of_the_digest_is_logged(run: Path) -> None:
    names = set().union(*steps(run, "rl"))
    wanted = {f"bao/{name}" for name in ("score", "effort", "turns", "ur", "consecutive", "budget_exhausted")}
    wanted |= {f"bao/pass_at_u_{k}" for k in range(1, 6)} | {"bao/think_tokens", "reward/task", "missing/task"}
    wanted |= {f"bao/penalty_{name}" for name in ("ask", "think", "effort")} | {"advantage/few_holders"}
    assert not wanted - names
