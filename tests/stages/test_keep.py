"""Which samples a rule keeps, and what of them may be kept at all."""

from __future__ import annotations

from typing import Any

import pytest

from raylign.errors import ConfigError
from raylign.recipes.stages.keep import All, Best, BestAndWorst, Keep, Kept, Passing, PassRate
from raylign.recipes.stages.made_rows import usable
from raylign.records import Group, Missing, StopReason
from raylign.testing import call, group, tiny_run, trajectory

SCORES = (0.5, None, 1.0, 0.0, 1.0)


def samples() -> Group:
    """Five samples: middling, without a verdict, right, wrong, right but cut off."""
    made = [
        trajectory(
            call(f"say {index}", stop=StopReason.LENGTH if index == 4 else StopReason.EOS),
            rewards={"right": Missing(reason="timeout") if score is None else score, "style": float(index)},
        )
        for index, score in enumerate(SCORES)
    ]
    return group(*made, scores=SCORES)


def keep(rule: type[Keep], truncated: bool = False, **settings: Any) -> list[Kept]:
    whole = samples()
    return rule(rule.Config(**settings)).keep(whole, usable(whole, scored=True, truncated=truncated))


@pytest.mark.parametrize(
    ("rule", "settings", "kept"),
    [
        (All, {}, [0, 2, 3]),
        (All, {"truncated": True}, [0, 2, 3, 4]),
        (Passing, {}, [2]),
        (Passing, {"at_least": 0.5}, [0, 2]),
        (Passing, {"at_least": 0.5, "count": 1}, [0]),
        (Passing, {"at_least": 3.0, "reward": "style"}, [3]),
        (Passing, {"at_least": 2.0}, []),
        (Best, {}, [2]),
        (Best, {"truncated": True}, [2]),
        (Best, {"count": 2}, [2, 0]),
        (Best, {"count": 9, "at_least": 0.5}, [2, 0]),
        (Best, {"reward": "style"}, [3]),
        (Best, {"at_least": 1.5}, []),
    ],
)
def test_a_rule_keeps_by_the_number_that_it_names(rule: type[Keep], settings: dict[str, Any], kept: list[int]) -> None:
    assert keep(rule, **settings) == [Kept(index) for index in kept]


def test_a_pair_is_the_best_and_the_worst_where_they_differ_enough() -> None:
    assert keep(BestAndWorst) == [Kept(2, rejected=3)]
    assert keep(BestAndWorst, margin=0.9) == [Kept(2, rejected=3)]
    assert keep(BestAndWorst, margin=1.0) == []
    equal = group(*[trajectory("x") for _ in range(3)], scores=[1.0, 1.0, None])
    assert BestAndWorst(BestAndWorst.Config()).keep(equal, [0, 1]) == []
    assert BestAndWorst(BestAndWorst.Config()).keep(equal, []) == []


@pytest.mark.parametrize(
    ("scores", "bounds", "fits"),
    [
        ((0, 0, 0), {}, False),
        ((0, 1, 0), {}, True),
        ((1, 1, 1), {"at_most": 2}, False),
        ((1, 1, 1), {"at_least": 3}, True),
        ((0, 0, 0), {"at_least": 0}, True),
        ((None, None, None), {"at_least": 0}, False),
        ((1, None, None), {"at_least": 1, "at_most": 1}, True),
    ],
)
def test_prompts_are_kept_by_how_often_they_are_solved(scores: Any, bounds: dict[str, int], fits: bool) -> None:
    rewards = [{} if score is None else {"right": score} for score in scores]
    asked = group(*[trajectory("x", rewards=own) for own in rewards], scores=scores)
    rule = PassRate(PassRate.Config(reward="right", **bounds))
    assert rule.keep(asked, range(3)) == ([Kept(None)] if fits else [])


def test_without_rewards_every_drawn_sample_may_be_kept() -> None:
    lost = trajectory(rewards={"rollout": Missing(reason="no room")})
    asked = group(trajectory("a"), lost, trajectory(call("b", stop=StopReason.LENGTH)), scores=[None] * 3)
    assert usable(asked, scored=False, truncated=False) == [0]
    assert usable(asked, scored=False, truncated=True) == [0, 2]
    assert usable(asked, scored=True, truncated=True) == []


RULE = "raylign.recipes.stages.keep"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (f"keep: {{_target_: {RULE}.Best, count: 0}}", "count is 0"),
        (f"keep: {{_target_: {RULE}.Best, reward: corect}}", "is no reward of this run"),
        (f"samples: 4, keep: {{_target_: {RULE}.PassRate, at_least: 5}}", "more than the 4 samples of a prompt"),
        (f"keep: {{_target_: {RULE}.PassRate, at_least: 3, at_most: 2}}", "no number fits"),
        ("keep: {_target_: raylign.actors.reward.exact.ExactMatch}", "is not a rule of what is kept"),
        ("samples: 2, greedy: true", "are all the same"),
        ("batch_prompts: 0", "batch_prompts is 0"),
        ("by: teacher", "is no judge that this run serves"),
        ("otherwise: gold", "otherwise"),
        ("split: holdout", "held-out prompts and there are none"),
        ("start: '@rl'", "names no stage"),
    ],
)
def test_a_set_that_cannot_be_made_is_refused_before_a_run(stage: str, message: str) -> None:
    made = f"stages.made={{_target_: raylign.recipes.stages.generate.Generate, {stage}}}"
    others = [f"~stages.{name}" for name in ("warmup", "before", "rl", "after")]
    with pytest.raises(ConfigError, match=message):
        tiny_run(*others, "data.holdout=0", f"+{made}")
