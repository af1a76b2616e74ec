"""Records with as few words as a test needs: everything that is not said has a plain value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from raylign.contracts import Rows
from raylign.loop.rows import PerTrajectory
from raylign.records import Call, Group, Int32s, Prompt, Reward, Row, StopReason, Trajectory, Value

LOGPROB = -0.5  # of every sampled token, unless a test says otherwise


def prompt(number: int = 0, text: str = "", **fields: Any) -> Prompt:
    """The prompt ``p<number>``, of three tokens, whose gold answer is its number.

    text: of its user message. fields: any other of `Prompt`.
    """
    messages = ({"role": "user", "content": text or f"question {number}"},)
    ids = np.array([1, 2, 3 + number], np.int32)
    made = Prompt(id=f"p{number}", messages=messages, token_ids=ids, answer=str(number))
    return replace(made, **fields)


def call(text: str = "", tokens: int | Sequence[int] | None = None, **fields: Any) -> Call:
    """One call of the policy that says `text`, at its end of turn, by policy version 0.

    tokens: the ids that were sampled, or how many (0, 1, ...); None: one for each byte of the text. fields: any other
    of `Call`; ``context_ids`` and ``logprobs`` may be lists, ``logprobs`` and ``versions`` also one number for all.
    """
    ids = _ids(text, tokens)
    context = np.asarray(fields.pop("context_ids", ()), np.int32)
    logprobs = np.broadcast_to(np.asarray(fields.pop("logprobs", LOGPROB), np.float32), ids.shape).copy()
    versions = np.broadcast_to(np.asarray(fields.pop("versions", 0), np.int32), ids.shape).copy()
    made = Call(
        context_ids=context, token_ids=ids, logprobs=logprobs, versions=versions, stop=StopReason.EOS, text=text
    )
    return replace(made, **fields)


def trajectory(*calls: Call | str, rewards: dict[str, Reward | float] | None = None, **fields: Any) -> Trajectory:
    """One attempt at prompt ``p0``: its calls, each a `Call` or the text of one. A reward may be a number.

    fields: any other of `Trajectory`; without ``stop`` it ends as its last call does.

    Example: ``trajectory("4", rewards={"correct": 1.0}, sample_index=2)``
    """
    made = tuple(call(said) if isinstance(said, str) else said for said in calls)
    plain = Trajectory(
        prompt_key="p0#0",
        sample_index=0,
        calls=made,
        seed=0,
        stop=made[-1].stop if made else StopReason.ABORT,
        rewards={name: _reward(value) for name, value in (rewards or {}).items()},
    )
    return replace(plain, **fields)


def group(*trajectories: Trajectory, scores: Sequence[float | None] = (), **fields: Any) -> Group:
    """All samples of a prompt, numbered in this order; without any, one empty sample for each score.

    fields: any other of `Group`; without ``prompt`` it is ``p0``.
    """
    asked = fields.pop("prompt", None) or prompt()
    made = trajectories or tuple(trajectory(call()) for _ in scores)
    numbered = tuple(replace(one, prompt_key=asked.key, sample_index=index) for index, one in enumerate(made))
    return Group(prompt=asked, trajectories=numbered, scores=tuple(scores), **fields)


def row(group: int = 0, prompt_length: int = 2, tokens: int | Sequence[int] = 5, **extras: float) -> Row:
    """A learner's row with the loss on all tokens after the prompt; extras: further streams, one number each."""
    ids = _ids("", tokens)
    mask = np.arange(len(ids)) >= prompt_length
    return Row(
        group=group,
        prompt_length=prompt_length,
        token_ids=ids,
        loss_mask=mask,
        sampler_logprob=np.where(mask, LOGPROB, 0.0).astype(np.float32),
        policy_version=np.where(mask, 0, -1).astype(np.int32),
        advantage=np.zeros(len(ids), np.float32),
        weight=np.ones(len(ids), np.float32),
        extras={name: np.full(len(ids), value, np.float32) for name, value in extras.items()},
    )


def rows_of(groups: Sequence[Group], unscored: bool = False) -> Rows:
    """One row for each trajectory of the groups that has a score (unscored: for all), as a run makes them."""
    return PerTrajectory(PerTrajectory.Config()).rows(groups, unscored)


def _ids(text: str, tokens: int | Sequence[int] | None) -> Int32s:
    if tokens is None:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    return np.arange(tokens, dtype=np.int32) if isinstance(tokens, int) else np.asarray(tokens, np.int32)


def _reward(value: Reward | float) -> Reward:
    return Value(score=float(value)) if isinstance(value, int | float) else value
