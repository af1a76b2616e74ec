"""What a run is judged by: every recipe names a metric that its stages log, and a name that none can log is refused."""

from __future__ import annotations

import pytest

from raylign.config.compose import compose, compose_with_problems, recipes
from raylign.config.headline import direction, headline, sweep_metric

OWN = {
    "composition_rl": "after/depth_2/score",
    "hypo": "preference/eval/rewards/accuracy",
    "quark_medical": "after/eval/diagnosis/least",
    "rewriter": "general/eval/tasks/mean",
}
TINY = ["scale=tiny", "recipe=grpo"]


@pytest.mark.parametrize("recipe", [name for name in recipes() if name != "sft"])
def test_every_recipe_has_a_metric_of_its_own(recipe: str) -> None:
    """That of its last stage, mostly a held-out score."""
    run = compose([f"recipe={recipe}", "scale=tiny"])
    assert headline(run) == sweep_metric(run) and direction(headline(run)) == "maximize"
    assert headline(run) == OWN[recipe] if recipe in OWN else headline(run).endswith("/score")


@pytest.mark.parametrize(
    ("settings", "metric"),
    [
        (["~stages.after"], "rl/eval/score"),
        (["~stages.after", "stages.rl.eval_every=0"], "rl/reward/mean"),
        (["telemetry.headline=length/mean"], "rl/length/mean"),
        (["telemetry.headline=eval/length/mean"], "after/eval/length/mean"),
    ],
)
def test_it_follows_the_stages_that_are_left(settings: list[str], metric: str) -> None:
    assert headline(compose([*TINY, *settings])) == metric


def test_a_loss_is_minimized() -> None:
    run = compose(["recipe=sft", "scale=tiny", "data.task=basic_arithmetic"])
    assert sweep_metric(run) == "sft/loss" and direction("sft/loss") == "minimize" == direction("rl/loss/policy")
    assert direction("preference/eval/nll") == "minimize" and direction("sft/loss", "maximize") == "maximize"


def test_preferences_without_a_reference_or_held_out_pairs() -> None:
    free = ["stages.preference.objective.reference_margin=none", "stages.preference.objective.classify=false"]
    assert headline(compose(["recipe=hypo", "scale=tiny", *free])) == "preference/eval/agreement"
    assert headline(compose(["recipe=hypo", "scale=tiny", "data.holdout=0"])) == "preference/rewards/accuracy"


@pytest.mark.parametrize(
    ("settings", "key", "near"),
    [
        (["recipe=composition_rl", "sweep.metric=after/eval/score"], "sweep.metric", "after/depth_2/score"),
        (["recipe=grpo", "sweep.metric=after/eval/scor"], "sweep.metric", "after/eval/score"),
        (["recipe=grpo", "sweep.metric=aftr/eval/score"], "sweep.metric", "after/eval/score"),
        (["recipe=grpo", "sweep.metric=eval/score"], "sweep.metric", "after/eval/score"),
        (["recipe=grpo", "sweep.metric=after/reward/mean"], "sweep.metric", "rl/reward/mean"),
        (["recipe=grpo", "stages.rl.eval_every=0", "sweep.metric=rl/eval/score"], "sweep.metric", "after/eval/score"),
        (["recipe=composition_rl", "telemetry.headline=depth_3/score"], "telemetry.headline", "depth_2/score"),
        (["recipe=hypo", "telemetry.headline=eval/rewards/acuracy"], "telemetry.headline", "eval/rewards/accuracy"),
    ],
)
def test_a_metric_that_no_stage_can_log_is_refused_with_near_ones(settings: list[str], key: str, near: str) -> None:
    _, problems = compose_with_problems(["scale=tiny", *settings])
    (problem,) = [problem for problem in problems if problem.key == key]
    assert near in problem.fix and "no stage of this run" in problem.why


@pytest.mark.parametrize(
    "metric",
    [
        "rl/reward/mean",
        "rl/reward/correct",
        "rl/mine/own",
        "after/eval/mine",
        "before/eval/length/mean",
        "after/loop/lag_max_s",
        "warmup/loss",
    ],
)
def test_what_a_stage_may_log_is_let_through(metric: str) -> None:
    compose([*TINY, f"sweep.metric={metric}"])
