"""A set by the trained model, learned from; a classifier fitted to it, and rewarded by; killed within the set."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_runs import killed, lines, steps, train

from raylign.actors.reward.ngrams import NgramClassifier
from raylign.data.readers import Format, load_rows
from raylign.testing import prompt

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
STAGES = "raylign.recipes.stages"
CLASSIFIER = NgramClassifier.Config(longest=1, buckets=64, threshold=0.2)
RUN = [
    "recipe=grpo",
    "scale=tiny",
    "seed=4",
    *(f"~stages.{name}" for name in ("warmup", "before", "rl", "after")),
    "model.tiny.hidden_size=64",
    "model.tiny.layers=2",
    "data.size=64",
    "data.holdout=8",
    "rewards.correct.fn={_target_: raylign.actors.reward.python.PythonFunction, path: letters.share_of_letters}",
    "run.allow_targets=[letters.]",
    "telemetry.progress=plain",
    f"+stages.warm={{_target_: {STAGES}.sft.Sft, steps: 3, batch_size: 16}}",
    f"+stages.made={{_target_: {STAGES}.generate.Generate, prompts: 24, samples: 2, batch_prompts: 12, "
    "truncated: true, weights: {correct: 1}}",
    f"+stages.imitate={{_target_: {STAGES}.sft.Sft, data: '@made', steps: 2, batch_size: 16}}",
    f"+stages.fit={{_target_: {STAGES}.fit.Fit, data: '@made', estimator: {{_target_: "
    "raylign.actors.reward.ngrams.NgramClassifier, longest: 1, buckets: 64, threshold: 0.2}}",
    f"+stages.learn={{_target_: {STAGES}.rl.Rl, start: '@imitate', steps: 2, prompts_per_step: 4, group_size: 4, "
    "weights: {taste: 1}}",
    "+rewards.taste={fn: {_target_: raylign.actors.reward.fitted.Fitted, fitted: '@fit', "
    "estimator: '${stages.fit.estimator}'}}",
]


def test_a_set_is_learned_from_and_a_classifier_of_it_rewards(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed(folder, RUN, ("made", "generate", 1), delay=0.0)
    path = folder / "stages/made/rows.jsonl"
    known = path.read_bytes()
    train(folder, RUN)
    assert known.count(b"\n") == 24 and path.read_bytes().startswith(known), "the first batch is not asked again"
    kind, rows = load_rows(path)
    made = [row.meta["generated"] for row in rows]
    assert kind is Format.raylign and {row["model"] for row in made} == {"stages/warm/model"}
    assert len({(row["prompt"], row["sample"]) for row in made}) == len(made) == 48
    assert len(steps(folder, "made")) == 2 and len(steps(folder, "imitate")) == 2
    assert steps(folder, "fit")[0]["fit/labelled"] == 48
    classifier = NgramClassifier(CLASSIFIER)
    classifier.load(folder / "stages/fit/fitted")
    learned = steps(folder, "learn")
    assert len(learned) == 2 and all("reward/taste" in row and "reward/correct" not in row for row in learned)
    for step in learned:
        samples = lines(folder / f"rollouts/step_{step['step']:06d}.jsonl")
        scores = classifier.scores(prompt(), [sample["text"] for sample in samples])
        assert [sample["rewards"]["taste"]["score"] for sample in samples] == pytest.approx(scores)
        assert len({round(score, 6) for score in scores}) > 1
