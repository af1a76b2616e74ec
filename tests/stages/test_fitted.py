"""A classifier of text, the reward that it makes, and a served model in the place of the engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.judge.rollouts import ChatRollouts
from raylign.actors.judge.scripted import Scripted
from raylign.actors.reward.fitted import Fitted
from raylign.actors.reward.ngrams import NgramClassifier
from raylign.contracts import PlacedRow, RolloutTask, Sampling
from raylign.errors import ConfigError, DataError, EngineDeadError, JudgeUnavailable
from raylign.loop.collect import collect
from raylign.records import Missing, StopReason
from raylign.testing import FakeLearner, FakeRewards, prompt, tiny_run, trajectory

NODE = {"_target_": "raylign.actors.reward.ngrams.NgramClassifier", "longest": 2, "buckets": 64}


def classifier(**settings: Any) -> NgramClassifier:
    return NgramClassifier(NgramClassifier.Config(**{"longest": 2, "buckets": 64, **settings}))


def rows(texts: list[tuple[str, float | None]]) -> list[PlacedRow]:
    return [
        PlacedRow(f"a:{number}", {"target": text, "meta": {"generated": {"score": score}}})
        for number, (text, score) in enumerate(texts)
    ]


TEXTS: list[tuple[str, float | None]] = [("aa b", 1.0), ("ba a", 1.0), ("cc d", 0.0), ("dc c", 0.2), ("lost", None)]


def test_it_tells_the_kinds_apart_and_comes_back_from_its_folder(tmp_path: Path) -> None:
    fitted = classifier()
    metrics = fitted.fit(rows(TEXTS), seed=1)
    assert metrics == {"accuracy": 1.0, "good": 0.5, "labelled": 4.0}
    again = classifier()
    fitted.save(tmp_path)
    again.load(tmp_path)
    said = ["a a", "c c", "", "\ud83d"]
    scores = again.scores(prompt(), said)
    assert scores == fitted.scores(prompt(), said) and scores[0] > 0.5 > scores[1]
    other = classifier()
    other.fit(rows(TEXTS), seed=2)
    assert other.scores(prompt(), said) == scores


def test_its_weights_are_where_the_penalised_loss_is_least() -> None:
    fitted = classifier(l2=0.01)
    fitted.fit(rows(TEXTS), seed=1)
    features, good = fitted.features([text for text, _ in TEXTS[:4]]), np.array([1.0, 1, 0, 0])

    def loss(weights: np.ndarray) -> float:
        margin = features @ weights
        return float(np.mean(np.log1p(np.exp(margin)) - good * margin) + 0.005 * (weights[:-1] ** 2).sum())

    best = fitted._known()
    rng = np.random.default_rng(0)
    assert all(loss(best) < loss(best + 0.01 * rng.normal(size=best.shape)) for _ in range(20))


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ([("a", 1.0), ("b", 1.0)], {}, "none of 2 rows is of the other kind"),
        ([("a", 0.0)], {}, r"none of 1 rows is good \(meta.generated.score >= 0.5\)"),
        ([("a", None)], {}, "none of 1 rows has a number there"),
        (TEXTS, {"text": "answer"}, "a:0: no text at answer"),
        ([("a", "yes")], {}, "a:0: meta.generated.score is no number, but 'yes'"),
    ],
)
def test_rows_that_teach_nothing_are_refused(texts: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        classifier(**settings).fit(rows(texts), seed=1)


def test_another_classifier_does_not_load_it(tmp_path: Path) -> None:
    fitted = classifier()
    fitted.fit(rows(TEXTS), seed=1)
    fitted.save(tmp_path)
    with pytest.raises(DataError, match=r"was fitted with buckets=64, now 32; fix"):
        classifier(buckets=32).load(tmp_path)
    with pytest.raises(DataError, match="holds no fitted classifier"):
        classifier().load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="neither fitted nor loaded"):
        classifier().scores(prompt(), ["a"])


def test_it_is_a_reward_of_all_that_was_said(tmp_path: Path) -> None:
    fitted = classifier()
    fitted.fit(rows(TEXTS), seed=1)
    fitted.save(tmp_path)
    reward = Fitted(Fitted.Config(fitted=str(tmp_path), estimator=NODE))
    scores = [value.score for value in reward.score(prompt(), [trajectory("a", "a"), trajectory("cc")])]
    assert scores == fitted.scores(prompt(), ["a\na", "cc"])


SAID = "estimator: {_target_: raylign.actors.reward.ngrams.NgramClassifier}"
FIT = "+stages.fit={_target_: raylign.recipes.stages.fit.Fit, data: '@made', " + SAID + "}"
MADE = "+stages.made={_target_: raylign.recipes.stages.generate.Generate, weights: {correct: 1}}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (SAID, "there is nothing to load"),
        ("fitted: '@fit'", "does not say what was fitted"),
        (f"fitted: nowhere, {SAID}", "is no folder"),
        (f"fitted: '@made', {SAID}", "is none of what the stage leaves: @made/rows"),
        ("fitted: '@fit', estimator: {_target_: raylign.actors.reward.exact.ExactMatch}", "is not an estimator that"),
    ],
)
def test_a_reward_without_what_it_needs_is_refused_before_a_run(fields: str, message: str) -> None:
    taste = f"+rewards.taste={{fn: {{_target_: raylign.actors.reward.fitted.Fitted, {fields}}}, gpus: 0}}"
    after = "+stages.last={_target_: raylign.recipes.stages.rl.Rl, weights: {taste: 1}}"
    others = [f"~stages.{name}" for name in ("warmup", "before", "rl", "after")]
    with pytest.raises(ConfigError, match=message):
        tiny_run(*others, MADE, FIT, after, taste)


# ------------------------------------------------------------------------------------------------------ served models


def answers(messages: Any, sampling: Sampling, seed: int) -> str:
    if "gone" in messages[-1]["content"]:
        raise JudgeUnavailable("http://judge: HTTP 401")
    return f"{messages[-1]['content']} at {sampling.temperature:g} \ud83d"


async def test_a_chat_model_answers_as_an_engine_would() -> None:
    tools = ({"type": "function", "function": {"name": "add"}},)
    asked = [
        prompt(0, "one"),
        prompt(1, "gone"),
        prompt(2, tools=tools),
        prompt(3, messages=({"role": "user", "content": "x"}, {"role": "assistant", "content": "<think>"})),
    ]
    rollouts = ChatRollouts(Scripted.of(answers))
    tasks = [RolloutTask(prompt=each, n=2, sampling=Sampling(max_tokens=9), run_seed=1) for each in asked]
    groups = (await collect(tasks, rollouts, FakeRewards({}), 5.0)).groups
    said = groups[0].trajectories
    assert [t.text for t in said] == ["one at 1 \ufffd"] * 2 and said[0].seed != said[1].seed
    assert said[0].stop is StopReason.EOS and not said[0].response_length
    reasons = [group.trajectories[0].rewards["rollout"] for group in groups[1:]]
    assert [type(reason) for reason in reasons] == [Missing] * 3
    told = [reason.reason for reason in reasons if isinstance(reason, Missing)]
    assert "HTTP 401" in told[0] and "the tools of a prompt" in told[1] and "open message" in told[2]
    greedy = [RolloutTask(prompt=asked[0], n=1, sampling=Sampling(max_tokens=9), run_seed=1, greedy=True)]
    (group,) = (await collect(greedy, rollouts, FakeRewards({}), 5.0)).groups
    assert group.trajectories[0].text.startswith("one at 0")
    with pytest.raises(EngineDeadError, match="takes no weights"):
        await rollouts.publish(await FakeLearner().publish(1))
