"""Sci-CoE through the command line: two roles of one policy, a judge that is a program, with labels and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from short_runs import lines, steps, train

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SMALL = [
    "recipe=sci_coe",
    "scale=tiny",
    "seed=3",
    "data.size=256",
    "data.holdout=8",
    "data.generator.labelled=0.2",
    "stages.warmup.steps=200",
    "stages.warmup.batch_size=32",
    "stages.warmup.eval_every=0",
    "stages.warmup.stop_at=null",
    "stages.anchor.steps=2",
    "stages.anchor.prompts_per_step=4",
    "stages.evolve.steps=2",
    "stages.evolve.prompts_per_step=4",
    "objective.old_logprob=recompute",
    "telemetry.progress=none",
    "telemetry.rollouts_per_step=0",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imitates, is anchored on labels, evolves without, and is evaluated."""
    folder = tmp_path_factory.mktemp("sci_coe") / "run"
    train(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def groups(run: Path) -> dict[str, list[list[dict[str, Any]]]]:
    """The recorded samples of each stage, by step and prompt."""
    found: dict[str, dict[tuple[int, str], list[dict[str, Any]]]] = {}
    for path in sorted((run / "rollouts").glob("*.jsonl")):
        for row in lines(path):
            found.setdefault(row["stage"], {}).setdefault((row["step"], row["prompt"]), []).append(row)
    return {stage: list(by_prompt.values()) for stage, by_prompt in found.items()}


def test_both_roles_read_contexts_of_their_own_and_are_learned_in_them(groups: Any) -> None:
    """The learner's log-probs of what each role said are the engine's: it reads what the engine read."""
    for group in [*groups["anchor"], *groups["evolve"]]:
        assert [row["turns"][0]["role"] for row in group] == ["solver"] * 8 + ["verifier"] * 8
        contexts = [tuple(row["turns"][0]["context_ids"]) for row in group]
        assert len({*contexts[:8]}) == len({*contexts[8:]}) == 1 and contexts[0] != contexts[8]
        learned = [row for row in group if row["score"] is not None]
        assert len(learned) >= 8 and np.abs(np.concatenate([np.atleast_1d(row["gap"]) for row in learned])).max() < 1e-3


def test_rewards_without_labels_can_be_recomputed_from_the_run_folder(groups: Any) -> None:
    assert len(groups["evolve"]) == 8
    for group in groups["evolve"]:
        details = [row["rewards"]["geometric"]["details"] for row in group]
        verdicts = np.array([detail["verdicts"] for detail in details[8:]], float).T
        shares = verdicts.mean(axis=1)
        scores = [row["rewards"]["geometric"]["score"] for row in group]
        np.testing.assert_allclose(scores[:8], np.minimum(shares / 0.8, 1), atol=1e-6)
        for j, detail in enumerate(details[8:]):
            others = np.delete(verdicts, j, axis=1).mean(axis=1)
            right = (others >= 0.8 * others.max() - 1e-12) & (others.max() > 0)
            c = 0.0 if right.all() or not right.any() else verdicts[right, j].mean() - verdicts[~right, j].mean()
            expected = c + 0.5 * detail["reliability"] + detail["diversity"] - 0.1 * detail["stated"]
            assert scores[8 + j] == pytest.approx(expected, abs=1e-6)


def test_labels_pay_in_the_first_stage_alone(groups: Any) -> None:
    for group in groups["anchor"]:
        solved = [row["rewards"]["anchored"]["score"] for row in group[:8]]
        said = [row["text"].partition(";")[2] == row["answer"] for row in group[:8]]
        assert solved == [float(right) for right in said] and set(group[0]["rewards"]) == {"anchored"}
        absent = [row["rewards"]["anchored"].get("absent", False) for row in group[8:]]
        assert all(absent) if not any(said) else not any(absent)
    assert {name for group in groups["evolve"] for row in group for name in row["rewards"]} == {"geometric", "correct"}


def test_advantages_are_standardised_within_question_and_role(groups: Any) -> None:
    taught = 0
    for group in groups["evolve"]:
        for role in (group[:8], group[8:]):
            scores = np.array([row["score"] for row in role])
            spread = scores.std(ddof=1)
            expected = (scores - scores.mean()) / (spread + 1e-6) if np.ptp(scores) > 1e-6 else np.zeros(8)
            np.testing.assert_allclose([row["advantage"] for row in role], expected, atol=2e-3)
            taught += bool(np.ptp(scores) > 1e-6)
    assert taught > 4, "nothing to learn from"


def test_every_figure_of_the_digest_is_logged(run: Path) -> None:
    names = set().union(*steps(run, "evolve"))
    terms = {f"sci_coe/{term}{end}" for term in ("consistency", "reliability", "diversity") for end in ("", "_std")}
    wanted = terms | {
        "reward/geometric",
        "reward/correct",
        "sci_coe/consensus",
        "sci_coe/label",
        "sci_coe/agreement",
        "sci_coe/no_right",
        "sci_coe/no_wrong",
        "sci_coe/clusters",
        "sci_coe/effective_clusters",
        "sci_coe/singletons",
        "sci_coe/accepted",
        "sci_coe/judged",
        "sci_coe/stated",
        "sci_coe/void",
        "judge/asked",
        "judge/calls",
        "judge/unparsable",
        "judge/hit_rate",
        "ref_kl",
        "missing/geometric",
    }
    assert not wanted - names
    (after,) = steps(run, "after")
    assert {"eval/score", "eval/best_of_n/accuracy", "eval/best_of_n/gain", "eval/kinds/entropy"} <= set(after)
    assert after["eval/best_of_n/sample"] == pytest.approx(after["eval/score"])
