"""CM2 through the command line: dialogues with tools, checklists judged by rules, every level; killed and resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from short_runs import lines, steps, train, weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SMALL = [
    "recipe=cm2",
    "scale=tiny",
    "seed=3",
    "data.size=256",
    "data.holdout=8",
    "data.generator.keys=2",
    "data.generator.wrong_cell=0.2",
    "~stages.before",
    "~stages.after",
    "stages.sft.steps=160",
    "stages.sft.batch_size=16",
    "run.save_every=2",
    "stages.rl.steps=3",
    "stages.rl.prompts_per_step=4",
    "stages.rl.group_size=6",
    "environment.fn.examiner.judge.repeat_share=0.5",
    "telemetry.progress=none",
    "telemetry.rollouts_per_step=0",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imitates dialogues, then learns; beside it `killed`, what a death while step 3 is scored would have left."""
    folder = tmp_path_factory.mktemp("cm2") / "whole"
    train(folder, SMALL, keep={folder.with_name("killed"): ("rl", "score", 2)})
    return folder


def test_rewards_and_advantages_can_be_recomputed_from_the_run_folder(undisturbed: Path) -> None:
    """The score of every rollout from the labels on its calls, and GRPO without std from the scores."""
    rows = [row for path in sorted((undisturbed / "rollouts").glob("*.jsonl")) for row in lines(path)]
    rows = [row for row in rows if row["stage"] == "rl"]
    assert len(rows) == 3 * 24
    groups: dict[tuple[int, str], list[dict[str, float]]] = {}
    worth = {"asked": 0.3, "found": 0.3, "said": 0.4}
    for row in rows:
        passed = {
            (turn["flags"]["turn"], name)
            for turn in row["turns"]
            for name, verdict in turn["flags"]["labels"][0].items()
            if verdict
        }
        assert row["score"] == pytest.approx(sum(worth[name] for _, name in passed) / 2, abs=1e-6)
        assert len(row["turns"]) == 1 or row["turns"][1]["flags"]["step"] in (0, 1)
        groups.setdefault((row["step"], row["prompt"]), []).append(row)
    assert len({row["score"] for row in rows}) > 1, "nothing to learn from"
    for group in groups.values():
        scores = np.array([row["score"] for row in group])
        np.testing.assert_allclose([row["advantage"] for row in group], scores - scores.mean(), atol=1e-5)


def test_every_figure_of_the_digest_is_logged(undisturbed: Path) -> None:
    names = set().union(*steps(undisturbed, "rl"))
    wanted = {
        "reward/checklist",
        "reward/truth",
        "cm2/pass/assistant.tool_calls",
        "cm2/pass/tool.content",
        "cm2/reached",
        "cm2/reached_turn_2",
        "cm2/gate_stops",
        "cm2/dropped",
        "cm2/judge_gap_alarm",
        "judge/calls",
        "judge/latency_s",
        "judge/failures",
        "judge/disagreement",
        "judge/hit_rate",
        "tools/recorded",
        "tools/simulated",
        "tools/schema",
        "ref_kl",
        "mismatch_cut",
        "mismatch_weight",
        "length/mean",
        "missing/checklist",
    }
    assert not wanted - names


def test_killed_and_resumed_is_bit_equal(undisturbed: Path) -> None:
    folder = undisturbed.with_name("killed")
    assert len(steps(folder, "rl")) == 2
    train(folder, SMALL, cold=True)
    assert weights(folder, "rl") == weights(undisturbed, "rl")


@pytest.mark.parametrize("level", ["turn", "step"])
def test_finer_levels_give_calls_of_one_rollout_their_own_advantages(
    undisturbed: Path, tmp_path: Path, level: str
) -> None:
    judged = ["environment.fn.examiner.judge.model.settings={flip:0.2}", "environment.fn.examiner.independent=true"]
    warm = ["~stages.sft", f"model.path={undisturbed / 'stages' / 'sft' / 'model'}"]
    train(tmp_path / "run", [*SMALL, *warm, *judged, "stages.rl.steps=1", f"advantage.level={level}"])
    (row,) = steps(tmp_path / "run", "rl")
    assert row["advantage/abs"] > 0
    assert row["grad_norm"] > 0
