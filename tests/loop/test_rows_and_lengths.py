"""What a step says of its rows and lengths: rows without a score keep their place, empty answers are counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scripted_loop import first_token, make

from raylign.batch import Batch
from raylign.loop import Loop
from raylign.loop.reward_metrics import reward_metrics
from raylign.objectives.advantage.group import GRPO
from raylign.records import Call, Float32s, Group, Missing, Prompt, Reward, StopReason, Trajectory, Value


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
    assert result.batch is not None and len(result.rows) == len(result.batch) == rows
    for row, (group, index) in enumerate(result.rows):
        sampled = result.groups[group].trajectories[index].calls[0].token_ids
        assert list(result.batch.row(row, "token_ids")[result.batch.row(row, "loss_mask")]) == list(sampled)


def said(text: str, **fields: Any) -> Trajectory:
    call = Call(
        context_ids=np.zeros(0, np.int32),
        token_ids=np.array([9], np.int32),
        logprobs=np.zeros(1, np.float32),
        versions=np.zeros(1, np.int32),
        stop=StopReason.EOS,
        text=text,
    )
    calls = fields.pop("calls", (call,))
    return Trajectory(
        prompt_key="p", sample_index=0, calls=calls, seed=0, stop=StopReason.EOS, rewards={"r": Value(score=1.0)}
    )


@pytest.mark.parametrize(
    ("texts", "share"), [(["4", "5"], 0.0), (["", "5"], 0.5), ([" \n\t", ""], 1.0), (["\u00a0", "5", "6", "."], 0.25)]
)
def test_answers_of_nothing_or_blanks_are_empty(texts: list[str], share: float) -> None:
    prompt = Prompt(id="p", messages=(), token_ids=np.zeros(1, np.int32))
    trajectories = tuple(said(text) for text in texts)
    group = Group(prompt=prompt, trajectories=trajectories, scores=(1.0,) * len(texts))
    assert reward_metrics([group])["length/empty"] == share


def test_one_turn_that_says_something_is_an_answer() -> None:
    first, second = said("").calls[0], said("5").calls[0]
    prompt = Prompt(id="p", messages=(), token_ids=np.zeros(1, np.int32))
    talked = (said("", calls=(first, second)), said("", calls=(first, first)))
    group = Group(prompt=prompt, trajectories=talked, scores=(1.0, 1.0))
    assert reward_metrics([group])["length/empty"] == 0.5
