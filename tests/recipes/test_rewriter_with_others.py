"""The rewriter's parts beside those of other recipes, by overrides alone."""

from __future__ import annotations

from typing import Any

import pytest
from rewriter_cases import problem, rewrites

from raylign.config.build import build
from raylign.config.compose import compose
from raylign.plan import make_plan
from raylign.recipes.rewriter import Gate

SCIENCE = "{_target_: raylign.recipes.sci_coe.ScienceAnswer, tolerance: 0.05}"
BASE = "{_target_: raylign.actors.judge.served.Served, name: base}"
REWRITE = (
    "{_target_: raylign.recipes.rewriter.RewriteReward, gate: '${rewards.correct.fn}', "
    f"base: {BASE}, embedder: {{_target_: raylign.actors.embed.HashedNgrams}}, max_tokens: 48}}"
)


def test_answers_may_be_judged_by_the_verifier_of_another_recipe() -> None:
    """Numbers near enough: the gate of Sci-CoE's questions."""
    pytest.importorskip("raylign.recipes.sci_coe")  # which may be taken out of the tree
    run = compose(["recipe=rewriter", "scale=tiny", f"rewards.gate.fn.answers={SCIENCE}"])
    assert make_plan(run).roles
    part = run.parts["rewards.rewrite.fn.gate"]  # the reward's own gate follows
    gate: Any = build(Gate, {**part.node, "reasoning": {}}, "gate")
    values = gate.score(problem(answer="3.14"), rewrites(r"\boxed{3.1}", r"\boxed{4}"))
    gate.close()
    assert [value.score for value in values] == [1.0, 0.0]


def test_any_recipe_may_be_paid_for_staying_near_its_base_model_and_differing() -> None:
    """Composed prompts under the rewriter's reward: the gate is the other recipe's verifier."""
    pytest.importorskip("raylign.recipes.composition_rl")
    run = compose(
        [
            "recipe=composition_rl",
            "scale=tiny",
            f"+rewards.rewrite={{timeout_s: 60, fn: {REWRITE}}}",
            "+judges.base={path: '@warmup', verbs: [score], max_context: 64}",
            "stages.rl.weights={rewrite: 1, correct: 0}",
            "stages.before.weights={correct: 1}",
            "stages.after.weights={correct: 1}",
            "shaper={_target_: raylign.recipes.rewriter.RewriteShaper}",
        ]
    )
    assert any(role.name == "judge/base" for role in make_plan(run).roles)
    assert run.parts["rewards.rewrite.fn.gate"].cls.__name__ == "MarkedAnswer"
