"""Records: token in, token out; loss on sampled ids only; seeds that do not depend on the worker."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from raylign.loop.rows import row_from
from raylign.records import (
    Call,
    Group,
    Missing,
    Prompt,
    StopReason,
    Trajectory,
    content_id,
    derive_seed,
)

EOS = 2
PROMPT = Prompt(id="p", messages=({"role": "user", "content": "hi"},), token_ids=np.array([5, 6, 7], np.int32), visit=4)


def call(context: list[int], sampled: list[int], stop: StopReason = StopReason.EOS, text: str = "") -> Call:
    return Call(
        context_ids=np.array(context, np.int32),
        token_ids=np.array(sampled, np.int32),
        logprobs=-np.arange(1, len(sampled) + 1, dtype=np.float32),
        versions=np.full(len(sampled), 9, np.int32),
        stop=stop,
        text=text,
    )


def trajectory(*calls: Call, stop: StopReason = StopReason.EOS) -> Trajectory:
    return Trajectory(prompt_key=PROMPT.key, sample_index=1, calls=calls, seed=3, stop=stop)


def test_multi_turn_sample_has_loss_on_sampled_ids_only() -> None:
    row = row_from(trajectory(call([], [10, EOS], text="a"), call([20, 21], [11, 12, EOS], text="b")), PROMPT, 8)
    assert row.token_ids.tolist() == [5, 6, 7, 10, EOS, 20, 21, 11, 12, EOS]
    assert row.loss_mask.tolist() == [False] * 3 + [True] * 2 + [False] * 2 + [True] * 3
    assert row.sampler_logprob.tolist() == [0, 0, 0, -1, -2, 0, 0, -1, -2, -3]
    assert row.policy_version.tolist() == [-1] * 3 + [9] * 2 + [-1] * 2 + [9] * 3
    assert (row.group, row.prompt_length) == (8, 3)
    assert row.weight.tolist() == [1] * 10
    assert not row.advantage.any()


def test_eos_is_in_the_loss() -> None:
    row = row_from(trajectory(call([], [10, EOS])), PROMPT, 0)
    assert row.token_ids[-1] == EOS
    assert row.loss_mask[-1]


def test_empty_response() -> None:
    row = row_from(trajectory(call([], [], StopReason.LENGTH), stop=StopReason.LENGTH), PROMPT, 0)
    assert row.token_ids.tolist() == [5, 6, 7]
    assert not row.loss_mask.any()


def test_trajectory_properties() -> None:
    made = trajectory(call([], [10, EOS], text="a"), call([20], [11], text="b"), stop=StopReason.LENGTH)
    assert made.text == "a\nb"
    assert made.response_length == 3
    assert made.truncated
    assert not trajectory(call([], [EOS])).truncated


def test_group_validity() -> None:
    made = trajectory(call([], [EOS]))
    assert Group(prompt=PROMPT, trajectories=(made, made, made), scores=(0.0, None, 1.0)).valid == (0, 2)


def test_records_are_frozen_and_pickle() -> None:
    made = trajectory(call([], [EOS]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.seed = 4  # type: ignore[misc]
    again = pickle.loads(pickle.dumps(made))
    assert again.calls[0].token_ids.tolist() == [EOS]
    assert pickle.loads(pickle.dumps(Missing(reason="x"))) == Missing(reason="x")


def test_seeds() -> None:
    seed = derive_seed(1, PROMPT.key, 0, 0)
    assert seed == derive_seed(1, "p#4", 0, 0)
    assert 0 <= seed < 2**63
    others = {derive_seed(1, "p#4", i, t) for i in range(50) for t in range(20)}
    assert len(others) == 1000
    assert derive_seed(1, "ab", "c") != derive_seed(1, "a", "bc")


def test_identity() -> None:
    assert PROMPT.key == "p#4"
    assert content_id("ab", "c") != content_id("a", "bc")
    assert len(content_id("x")) == 16
