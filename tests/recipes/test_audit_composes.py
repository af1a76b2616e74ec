"""Graders go with every recipe by overrides alone: composed, planned, and said what they cost."""

from __future__ import annotations

import pytest

from raylign.cli.plan import render
from raylign.config.compose import compose, options
from raylign.errors import ConfigError
from raylign.plan import make_plan
from raylign.recipes.stages.prompt_sets import judged
from raylign.telemetry.summary import summary

GRADER = "+audit.graders.exact.fn._target_=raylign.actors.reward.exact.ExactMatch"
UNAUDITED = {"sft", "hypo"}  # nothing in them samples what a reward scores


@pytest.mark.parametrize("recipe", sorted(options("recipe")))
def test_every_recipe_takes_graders(recipe: str) -> None:
    own = ["data.task=basic_arithmetic"] if recipe == "sft" else []  # it brings none
    given = [f"recipe={recipe}", "scale=tiny", *own, GRADER]
    run = compose(given)
    plan, told = make_plan(run), " ".join(summary(run, make_plan(run)).split())
    roles = {role.name: role for role in plan.roles}
    assert bool(run.audited) == ("audit/exact" in roles)
    if not run.audited:
        assert recipe in UNAUDITED and "NOTHING IS AUDITED by exact (ExactMatch)" in told
        return
    assert "asked about at most" in roles["audit/exact"].memory and "audit/exact" in render(plan)
    assert "exact (ExactMatch): asked about at most" in told
    plain = make_plan(compose(given[:-1]))
    assert [role for role in plan.roles if role.name != "audit/exact"] == list(plain.roles), "nothing else changes"
    assert plan.cpus == pytest.approx(plain.cpus + 0.1)


def test_the_cost_is_that_of_the_share() -> None:
    run = compose(["recipe=grpo", "scale=tiny", GRADER, "audit.share=0.05"])
    (role,) = [role for role in make_plan(run).roles if role.name == "audit/exact"]
    assert role.memory == "asked about at most 25.6 of 512 samples a step of rl; 0.05 of the samples of before, after"
    assert role.setting == "audit.graders.exact.workers"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("audit.share=0", "audit.share"),
        ("audit.share=1.5", "audit.share"),
        ("audit.exploit.reward_above=75", "audit.exploit.reward_above"),
        ("audit.exploit.start_samples=2", "audit.exploit.start_samples"),
        ("audit.graders.exact.workers=0", "audit.graders.exact.workers"),
        ("audit.graders.exact.gpus=1", "audit.graders.exact.gpus"),
        ("audit.graders.exact.weight=1", "audit.graders.exact.weight"),
        ("audit.graders.exact.fn._target_=raylign.objectives.shaping.WeightedSum", "audit.graders.exact.fn._target_"),
        ("audit.graders.exact.fn._target_=os.system", "audit.graders.exact.fn._target_"),
        ("+audit.grader.exact.fn._target_=raylign.actors.reward.exact.ExactMatch", "audit.grader"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_their_key(override: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose(["recipe=grpo", "scale=tiny", GRADER, override])
    assert [problem.key for problem in refused.value.problems if problem.key.startswith(key)], refused.value


def test_a_grader_that_is_null_is_not_there() -> None:
    run = compose(["recipe=grpo", "scale=tiny", GRADER, "audit.graders.exact=null"])
    assert not run.config.audit.graders and not run.audited


def test_a_verifier_among_the_graders_asks_for_the_verifiers_of_the_data() -> None:
    verifier = "+audit.graders.right.fn._target_=raylign.actors.reward.router.Verifier"
    other = "rewards.correct.fn._target_=raylign.actors.reward.exact.ExactMatch"
    assert not judged(compose(["recipe=grpo", "scale=tiny", other]), "rl")
    assert judged(compose(["recipe=grpo", "scale=tiny", other, verifier]), "rl")
    assert judged(compose(["recipe=grpo", "scale=tiny", other, verifier]))
