"""What a step says of its rows and lengths: rows without a score keep their place, empty answers are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scripted_loop import first_token, make

from raylign.batch import Batch
from raylign.loop import Loop
from raylign.loop.reward_metrics import reward_metrics
from raylign.objectives.advantage.group import GRPO
from raylign.records import Float32s, Missing, Prompt, Reward, Trajectory
from raylign.testing import call, group, trajectory


class Dense(GRPO):
    """An advantage that reads no scores: every row is worth its own number."""

    reads_scores = False

    def assign(self, batch: Batch, scores: Float32s) -> tuple[Batch, dict[str, float]]:
        worth = (batch.row_of_token + 1.0).astype(np.float32)
        return batch.with_streams(advantage=np.where(batch["loss_mask"], worth, 0).astype(np.float32)), {}


def half(prompt: Prompt, trajectory: Trajectory) -> Reward:
    return Missing(reason="judge unreachable") if trajectory.sample_index == 0 else first_token(prompt, trajectory)


@pytest.mark.parametrize(("advantage", "rows"), [(GRPO, 8), (Dense, 12)])
async def test_a_step_says_which_trajectory_each_row_is(advantage: type[GRPO], rows: int) -> None:
    whole = make(half)
    parts = replace(whole.parts, advantage=advantage(GRPO.Config()))
    result = await Loop(parts, whole.settings).step(0)
    assert result.batch is not None and len(result.places) == len(result.batch) == rows
    for row, (number, index) in enumerate((place.group, place.trajectory) for place in result.places):
        sampled = result.groups[number].trajectories[index].calls[0].token_ids
        assert list(result.batch.row(row, "token_ids")[result.batch.row(row, "loss_mask")]) == list(sampled)


@pytest.mark.parametrize(
    ("texts", "share"), [(["4", "5"], 0.0), (["", "5"], 0.5), ([" \n\t", ""], 1.0), (["\u00a0", "5", "6", "."], 0.25)]
)
def test_answers_of_nothing_or_blanks_are_empty(texts: list[str], share: float) -> None:
    said = [trajectory(text, rewards={"r": 1.0}) for text in texts]
    assert reward_metrics([group(*said, scores=(1.0,) * len(texts))])["length/empty"] == share


def test_one_turn_that_says_something_is_an_answer() -> None:
    first, second = call(""), call("5")
    talked = (trajectory(first, second), trajectory(first, first))
    assert reward_metrics([group(*talked, scores=(1.0, 1.0))])["length/empty"] == 0.5
