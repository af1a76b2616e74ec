"""RELATE's parts beside other parts, by overrides alone: token rewards under RLOO, its models in other recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from relate_cases import asked, on_ads, rewarded
from relate_cases import shaper as made

from raylign.chat.template import ChatTemplate
from raylign.config.compose import compose
from raylign.models.tokenizer import load_tokenizer
from raylign.objectives.advantage.group import RLOO
from raylign.objectives.shaping import WeightedSum
from raylign.plan import make_plan
from raylign.testing import rows_of

TINY = ["recipe=relate", "scale=tiny"]
WITHOUT_TOKENS = ["advantage.token_weights.semantic=0", "advantage.token_weights.diversity=0"]
ARMS = {
    "M1": [*WITHOUT_TOKENS, "rewards.ctcvr.weight=0"],
    "M2": WITHOUT_TOKENS,
    "M3": [*WITHOUT_TOKENS, "+stages.rl.shaper.sequence.diversity=1"],
    "M4": [*WITHOUT_TOKENS, "+stages.rl.shaper.sequence.diversity=1", "+stages.rl.shaper.sequence.semantic=0.5"],
    "RELATE": [],
    "clicks alone": ["stages.predictor.estimator.head=ctr"],
    "two stages": [
        "stages.rl=null",
        "stages.chosen={_target_: raylign.recipes.stages.generate.Generate, split: holdout, samples: 8, "
        "weights: {ctcvr: 1, semantic: 10, structure: 10}, keep: {_target_: raylign.recipes.stages.keep.Best}}",
    ],
    "calibrated": [
        "stages.calibrate={_target_: raylign.recipes.stages.calibrate.Calibrate, weights: {ctcvr: 1}, prompts: 16}",
        "stages.rl.shaper.scale=frozen",
        "stages.rl.shaper.statistics=@calibrate",
    ],
    "centred": ["advantage.center_tokens=true", "stages.rl.shaper.scale=rank"],
    "rules alone": ["rewards.semantic.fn.judge={}"],
}


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_a_matter_of_settings(arm: str) -> None:
    run = compose([*TINY, *ARMS[arm]])
    make_plan(run)


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    return ChatTemplate(load_tokenizer(str(tiny_model), False))


def test_its_token_rewards_are_added_to_rloo(template: ChatTemplate) -> None:
    """On groups that the recipe's rewards and shaper have scored."""
    weighed = "{_target_: raylign.objectives.advantage.group.RLOO, token_weights: {semantic: 1, diversity: 6}}"
    run = compose([*TINY, f"advantage={weighed}"])
    make_plan(run)
    assert run.parts["advantage"].cls is RLOO and run.parts["advantage"].config.token_weights["diversity"] == 6
    weights = {"semantic": 1.0, "diversity": 6.0}
    advantage = RLOO(RLOO.Config(token_weights=weights))
    part, rng = made(template, least=4), np.random.default_rng(2)
    for _ in range(2):
        scored = part.score([rewarded(template, on_ads(rng, 4), asked(), rng.random(4).tolist())])
    rows = rows_of(scored)
    batch, metrics = advantage.assign(rows.batch, rows.scores)
    given = np.asarray(batch["advantage"])[np.asarray(batch["loss_mask"], bool)]
    rewards = np.array(scored[0].scores, np.float64)
    wanted = []
    for index, trajectory in enumerate(scored[0].trajectories):
        tokens = np.full(trajectory.response_length, rewards[index] - np.delete(rewards, index).mean())
        for name, weight in weights.items():
            by_token = scored[0].token_scores[name][index]
            tokens += 0.0 if by_token is None else weight * by_token
        wanted.append(tokens)
    np.testing.assert_allclose(given, np.concatenate(wanted), atol=1e-5)
    assert metrics["advantage/token_share"] > 0.05 and len(set(np.round(given, 6))) > 8


def test_its_semantic_reward_runs_without_its_shaper(template: ChatTemplate) -> None:
    """Under the plain weighted sum its spans score tokens all the same."""
    shaper = "stages.rl.shaper={_target_: raylign.objectives.shaping.WeightedSum}"
    run = compose(["recipe=relate", "scale=tiny", shaper, "~advantage.token_weights.diversity"])
    made_with = {"weights": {"structure": 1.0}, "max_tokens": 13, "tokenizer": template, "seed": 0}
    part: Any = run.parts["stages.rl.shaper"].build(**made_with)
    assert isinstance(part, WeightedSum)
    (one,) = part.score([rewarded(template, ["aA;bKK!", "aA;bKKK"], asked(), [0.1, 0.2])])
    faulty, clean = one.token_scores["semantic"]
    assert faulty is not None and faulty.tolist() == [0, 0, 0, 0, 0, 0, -1, 0] and clean is None


SEMANTIC = "{_target_: raylign.recipes.relate.Semantics, banned: [never], numbers: false}"


@pytest.mark.parametrize(
    "overrides",
    [
        ["recipe=grpo", f"+rewards.semantic={{weight: 0, fn: {SEMANTIC}}}", "+advantage.token_weights.semantic=1"],
        ["recipe=grpo", "variant=rloo", f"+rewards.semantic={{fn: {SEMANTIC}}}", "+advantage.token_weights.semantic=1"],
    ],
    ids=["grpo", "rloo"],
)
def test_other_recipes_take_its_semantic_reward(overrides: list[str]) -> None:
    make_plan(compose([*overrides, "scale=tiny"]))


def test_its_conversion_model_is_a_reward_of_another_recipe(tmp_path: Path) -> None:
    node = "{_target_: raylign.recipes.relate.TwoHeads, separator: ';'}"
    fn = f"{{_target_: raylign.actors.reward.fitted.Fitted, fitted: {tmp_path}, estimator: {node}}}"
    run = compose(["recipe=grpo", "scale=tiny", f"+rewards.ctcvr={{weight: 0.5, fn: {fn}}}"])
    make_plan(run)
    assert run.weights("rl") == {"correct": 1.0, "ctcvr": 0.5}
