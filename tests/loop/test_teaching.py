"""Which steps learn from their scores, and that a run knows when none did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_loop import first_token, make

from raylign.batch import Batch
from raylign.contracts import Advantage
from raylign.errors import RewardError
from raylign.loop import Loop
from raylign.loop.sampling import teaches
from raylign.objectives.advantage.group import GRPO, RLOO
from raylign.objectives.advantage.reinforce_pp import ReinforcePlusPlus
from raylign.recipes.stages.outcome import lesson
from raylign.records import Float32s, Missing, Prompt, Reward, Trajectory, Value


class Dense(GRPO):
    """Every token is worth as much, whatever was scored."""

    reads_scores = False

    def assign(self, batch: Batch, scores: Float32s) -> tuple[Batch, dict[str, float]]:
        return batch.with_streams(advantage=np.asarray(batch["loss_mask"], np.float32)), {}


def flat(prompt: Prompt, trajectory: Trajectory) -> Reward:
    return Value(score=1.0)


def by_prompt(prompt: Prompt, trajectory: Trajectory) -> Reward:
    return Value(score=float(int(prompt.id[1:]) % 2))


def only_p3(prompt: Prompt, trajectory: Trajectory) -> Reward:
    return first_token(prompt, trajectory) if prompt.id == "p3" else Value(score=0.0)


def loop_of(rule: Any, advantage: Advantage | None = None, **settings: Any) -> Loop:
    loop = make(rule, **settings)
    return Loop(replace(loop.parts, advantage=advantage or GRPO(GRPO.Config())), loop.settings)


async def test_steps_whose_scores_never_differ_teach_nothing() -> None:
    loop = loop_of(flat)
    for step in range(3):
        metrics = (await loop.step(step)).metrics
        assert metrics["groups/equal"] == 1.0 and metrics["advantage/abs"] == 0.0, "shown in every step"
    assert (loop.version, loop.taught) == (3, 0)
    assert lesson("rl", 3, loop.version, loop.taught).startswith("rl: NOTHING LEARNED: in none of 3 steps")
    with pytest.raises(RewardError, match="the model is as it was"):
        lesson("rl", 3, 0, 0)


@pytest.mark.parametrize(
    ("rule", "advantage", "taught"),
    [
        (first_token, GRPO(GRPO.Config()), 1),
        (only_p3, GRPO(GRPO.Config()), 1),
        (by_prompt, GRPO(GRPO.Config()), 0),
        (by_prompt, ReinforcePlusPlus(ReinforcePlusPlus.Config()), 1),
        (flat, ReinforcePlusPlus(ReinforcePlusPlus.Config()), 0),
        (flat, Dense(Dense.Config()), 1),
        (lambda p, t: Missing(reason="down"), GRPO(GRPO.Config()), 0),
    ],
)
async def test_one_group_that_differs_is_enough(rule: Any, advantage: Advantage, taught: int) -> None:
    loop = loop_of(rule, advantage, count=4, missing_limits={"rule": 1.0})
    await loop.step(0)
    assert loop.taught == taught


async def test_a_penalty_in_the_reward_is_no_word_of_the_scores() -> None:
    result = await loop_of(flat).step(0)
    assert result.batch is not None
    charged = result.batch.with_streams(advantage=np.asarray(result.batch["loss_mask"], np.float32))
    assert not teaches(charged, result.groups, RLOO(RLOO.Config()))
    by_turn = charged.with_streams(turn_score=np.zeros(charged.tokens, np.float32))
    assert teaches(by_turn, result.groups, RLOO(RLOO.Config())), "turns may differ where sums do not"


async def test_a_resumed_run_remembers_what_taught(tmp_path: Path) -> None:
    first, resumed = loop_of(only_p3, count=8), loop_of(only_p3, count=8)
    for step in range(2):
        await first.step(step)
    await first.save(tmp_path)
    await resumed.restore(tmp_path, first.state_dict())
    assert resumed.taught == first.taught == 1


@pytest.mark.parametrize(("settings", "shown"), [({}, True), ({"group_size": 1}, False)])
async def test_single_samples_and_scores_that_nobody_reads_are_not_called_equal(
    settings: dict[str, Any], shown: bool
) -> None:
    pool = loop_of(flat, ReinforcePlusPlus(ReinforcePlusPlus.Config()), **settings)
    assert ("groups/equal" in (await pool.step(0)).metrics) == shown
    assert "groups/equal" not in (await loop_of(flat, Dense(Dense.Config()), **settings).step(0)).metrics
