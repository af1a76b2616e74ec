"""ARLCP through the command line: over-thinking traces, trimmed by RLOO; logged rows; killed and resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from short_runs import lines, steps, train, weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SMALL = [
    "recipe=arlcp",
    "scale=tiny",
    "seed=3",
    "model.tiny.hidden_size=32",
    "data.size=512",
    "data.holdout=16",
    "data.generator.needs=[1]",
    "data.generator.excess=2",
    "data.generator.spread=1",
    "rollout.sampling.max_tokens=32",
    "shaper.n_1=2",
    "shaper.n_2=4",
    "stages.sft.steps=60",
    "stages.sft.batch_size=16",
    "~stages.before",
    "stages.after.samples=2",
    "stages.rl.steps=4",
    "stages.rl.prompts_per_step=4",
    "stages.rl.group_size=4",
    "run.save_every=2",
    "telemetry.progress=none",
    "telemetry.rollouts_per_step=0",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arlcp") / "whole"
    train(folder, SMALL, keep={folder.with_name("killed"): ("rl", "score", 2)})
    return folder


def test_rewards_and_advantages_can_be_recomputed_from_the_run_folder(undisturbed: Path) -> None:
    """Experiment E on a real run: statistics of the right answers of each group, r, and RLOO with the KL charge."""
    rows = [row for path in sorted((undisturbed / "rollouts").glob("*.jsonl")) for row in lines(path)]
    rows = [row for row in rows if row["stage"] == "rl"]
    assert len(rows) == 4 * 16
    groups: dict[tuple[int, str], list[dict[str, dict[str, float]]]] = {}
    for row in rows:
        groups.setdefault((row["step"], row["prompt"]), []).append(row)
    for group in groups.values():
        figures = [row["metrics"] for row in group]
        pool = [metrics for metrics in figures if metrics["arlcp/correct"]]
        for row, metrics in zip(group, figures, strict=True):
            assert metrics["arlcp/length"] == sum(len(turn["token_ids"]) for turn in row["turns"])
            if not metrics["arlcp/correct"]:
                assert row["score"] == 0
                continue
            terms = []
            for name in ("reflections", "length"):
                values = [other[f"arlcp/{name}"] for other in pool]
                std = float(np.std(values, ddof=1)) if len(values) > 1 else 1.0
                terms.append(1 / (1 + np.exp(-(metrics[f"arlcp/{name}"] - np.mean(values)) / (std + 1e-6))))
            alpha = (0.05, 0.10, 0.15)[int(metrics["arlcp/reflections"] > 2) + int(metrics["arlcp/reflections"] > 4)]
            assert row["score"] == pytest.approx(1 - alpha * terms[0] - (0.2 - alpha) * terms[1], abs=1e-6)
        if group[0]["step"] == min(row["step"] for row in rows):  # no KL yet: policy and reference are the same
            scores = np.array([row["score"] for row in group])
            advantages = [row["advantage"] for row in group]
            np.testing.assert_allclose(advantages, (scores - scores.mean()) * 4 / 3, atol=1e-4)


def test_every_figure_of_the_digest_is_logged(undisturbed: Path) -> None:
    rows = steps(undisturbed, "rl")
    names = set().union(*rows)
    wanted = {
        "reward/correct",
        "reward/mean",
        "arlcp/correct",
        "arlcp/reflections",
        "arlcp/groups_none_correct",
        "arlcp/groups_one_correct",
        "arlcp/truncated",
        "arlcp/format_failure",
        "arlcp/tier_easy",
        "arlcp/tier_medium",
        "arlcp/tier_hard",
        "advantage/kl_penalty",
        "length/truncated",
    }
    assert not wanted - names
    assert {"arlcp/length_right", "arlcp/reflections_wrong"} & names


def test_an_evaluation_reports_accuracy_never_the_shaped_score(undisturbed: Path) -> None:
    metrics = orjson.loads((undisturbed / "finished.json").read_bytes())["metrics"]
    assert metrics["after/eval/score"] == metrics["after/eval/reward/correct"] == metrics["after/eval/arlcp/correct"]
    assert {"after/eval/length/mean", "after/eval/arlcp/reflections", "after/eval/arlcp/tier_easy"} <= metrics.keys()
    rows = [
        row for path in (undisturbed / "rollouts").glob("*.jsonl") for row in lines(path) if row["stage"] == "after"
    ]
    assert len(rows) == 2 * 16
    for row in rows:
        right = row["metrics"]["arlcp/correct"]
        assert row["score"] == right
        assert 0.8 < row["metrics"]["arlcp/reward"] < 1 if right else row["metrics"]["arlcp/reward"] == 0


def test_killed_and_resumed_is_bit_equal(undisturbed: Path) -> None:
    killed = undisturbed.with_name("killed")
    assert len(steps(killed, "rl")) == 2
    train(killed, SMALL)
    assert weights(killed, "rl") == weights(undisturbed, "rl")
    assert [row["step"] for row in steps(killed, "rl")] == [row["step"] for row in steps(undisturbed, "rl")]
