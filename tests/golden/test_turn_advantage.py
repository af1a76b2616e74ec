"""Call and step advantages against the equations in plain loops, and the veto of the mismatch weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raylign.batch import Batch
from raylign.objectives.advantage.turn import Level, TurnAdvantage, TurnStd
from raylign.objectives.mismatch import Mismatch, MismatchConfig, mismatch_weights
from raylign.records import Call, Float32s, Group, Prompt, StopReason, Trajectory
from raylign.testing import rows_of

# (dialogue turn of each call, score of each call) of six rollouts; the last has no verdict
ROLLOUTS = [
    ([0, 0, 1], [0.3, 0.2, 0.6]),
    ([0, 1, 1], [1.0, 0.1, 0.0]),
    ([0], [0.0]),
    ([0, 0, 1, 2], [0.1, 0.4, 0.9, 1.0]),
    ([0, 1], [0.5, 0.7]),
    ([0, 1], [0.9, 0.2]),
    ([0, 1], [0.0, 0.0]),
]


def trajectory(index: int, turns: list[int]) -> Trajectory:
    rng = np.random.default_rng(index)
    calls = []
    for number, turn in enumerate(turns):
        length, context = int(rng.integers(1, 4)), int(rng.integers(1, 3)) if number else 0
        calls.append(
            Call(
                context_ids=np.zeros(context, np.int32),
                token_ids=np.ones(length, np.int32),
                logprobs=np.full(length, -1, np.float32),
                versions=np.zeros(length, np.int32),
                stop=StopReason.EOS,
                flags={"turn": turn},
            )
        )
    return Trajectory(prompt_key="p#0", sample_index=index, calls=tuple(calls), seed=0, stop=StopReason.DONE)


def rows(unscored: tuple[int, ...] = (6,)) -> tuple[Batch, Float32s]:
    group = Group(
        prompt=Prompt(id="p", messages=(), token_ids=np.zeros(2, np.int32)),
        trajectories=tuple(trajectory(i, turns) for i, (turns, _) in enumerate(ROLLOUTS)),
        scores=tuple(None if i in unscored else sum(scores) for i, (_, scores) in enumerate(ROLLOUTS)),
        call_scores=tuple(np.array(scores, np.float32) for _, scores in ROLLOUTS),
    )
    made = rows_of([group], unscored=True)
    return made.batch, made.scores


def expected(level: str, std: str, min_holders: int) -> list[list[float]]:
    """Advantage of every call of every rollout."""
    valid = ROLLOUTS[:6]
    rows = []
    for turns, scores in ROLLOUTS[:6]:
        row = []
        for turn, own in zip(turns, scores, strict=True):
            if level == "step":
                row.append(own)
                continue
            cell = [sum(s for t, s in zip(ts, ss, strict=True) if t == turn) for ts, ss in valid if turn in ts]
            mine = sum(s for t, s in zip(turns, scores, strict=True) if t == turn)
            advantage = mine - np.mean(cell)
            if std != "none":
                advantage /= np.std(cell, ddof=1 if std == "sample" else 0) + 1e-6 if len(cell) > 1 else 1.0
            row.append(float(advantage) if len(cell) >= max(2, min_holders) else 0.0)
        rows.append(row)
    return [*rows, [0.0] * len(ROLLOUTS[6][0])]


@pytest.mark.parametrize("min_holders", [2, 5, 6])
@pytest.mark.parametrize(
    ("level", "std"), [("turn", "none"), ("turn", "sample"), ("turn", "population"), ("step", "none")]
)
def test_against_loops(level: str, std: str, min_holders: int) -> None:
    batch, scores = rows()
    config = TurnAdvantage.Config(level=Level[level], std=TurnStd[std], min_holders=min_holders)
    assigned, _ = TurnAdvantage(config).assign(batch, scores)
    for row, calls in enumerate(expected(level, std, min_holders)):
        call = batch.row(row, "call").astype(int)
        wanted = np.where(call >= 0, np.array([*calls, 0.0])[call], 0.0)  # call -1: context, nothing
        np.testing.assert_allclose(assigned.row(row, "advantage"), wanted, atol=1e-6)
    assert not assigned.row(6, "weight").any() and assigned.row(0, "weight").all()


def test_four_holders_teach_nothing_and_five_do() -> None:
    batch, scores = rows()
    assigned, metrics = TurnAdvantage(TurnAdvantage.Config(level=Level.turn)).assign(batch, scores)
    second = [assigned.row(row, "advantage")[batch.row(row, "turn") == 1] for row in (0, 1, 3, 4, 5)]
    assert all(np.abs(part).min() > 0 for part in second)  # five hold turn 1
    assert metrics["advantage/few_holders"] == pytest.approx(1 / 3)  # turn 2 has one
    batch, scores = rows(unscored=(5, 6))
    assigned, _ = TurnAdvantage(TurnAdvantage.Config(level=Level.turn)).assign(batch, scores)
    assert not any(assigned.row(row, "advantage")[batch.row(row, "turn") == 1].any() for row in range(7))
    assert assigned.row(0, "advantage")[batch.row(0, "turn") == 0].any()  # five still hold turn 0


def test_level_trajectory_is_grpo_without_std() -> None:
    batch, scores = rows()
    assigned, _ = TurnAdvantage(TurnAdvantage.Config()).assign(batch, scores)
    mean = np.mean(scores[:6])
    for row in range(6):
        np.testing.assert_allclose(
            assigned.row(row, "advantage"), np.where(batch.row(row, "loss_mask"), scores[row] - mean, 0), atol=1e-6
        )
    assert not assigned.row(6, "advantage").any()


def test_equal_turns_get_exactly_nothing() -> None:
    batch, scores = rows()
    same = batch.with_streams(turn_score=np.where(batch["call"] >= 0, np.float32(0.1), batch["turn_score"]))
    same = same.with_streams(turn=np.where(batch["call"] >= 0, batch["call"], -1).astype(np.float32))
    assigned, _ = TurnAdvantage(TurnAdvantage.Config(level=Level.turn, min_holders=1)).assign(same, scores)
    assert not assigned["advantage"].any()


def test_absent_streams_and_scores_are_named() -> None:
    batch, scores = rows()
    bare = Batch(
        offsets=batch.offsets,
        prompt_lengths=batch.prompt_lengths,
        groups=batch.groups,
        streams={name: batch[name] for name in batch.streams if name != "turn_score"},
    )
    method = TurnAdvantage(TurnAdvantage.Config(level=Level.turn))
    with pytest.raises(ValueError, match="turn_score"):
        method.assign(bare, scores)
    holes = batch.with_streams(turn_score=np.full(batch.tokens, np.nan, np.float32))
    with pytest.raises(ValueError, match="row 0 has a score and calls without a turn score"):
        method.assign(holes, scores)


@pytest.mark.parametrize("mode", [mode for mode in Mismatch if mode is not Mismatch.none])
def test_veto_silences_the_whole_row(mode: Mismatch) -> None:
    """A single token that the learner finds 1e-5 times as likely as the sampler silences its row, and no other."""
    segment = torch.tensor([0, 0, 0, 1, 1])
    sampler = torch.zeros(5, dtype=torch.float64)
    learner = torch.tensor([0.1, np.log(1e-5), 0.1, 1.2, -0.3], dtype=torch.float64)
    plain = MismatchConfig(mode=mode, low=0.5, high=2.0)
    vetoed = MismatchConfig(mode=mode, low=0.5, high=2.0, veto=1e-4)
    free = mismatch_weights(plain, learner, sampler, segment, 2)
    weights = mismatch_weights(vetoed, learner, sampler, segment, 2)
    assert not weights[:3].any()
    torch.testing.assert_close(weights[3:], free[3:])
    close = torch.tensor([0.1, np.log(1e-3), 0.1, 1.2, -0.3], dtype=torch.float64)
    torch.testing.assert_close(
        mismatch_weights(vetoed, close, sampler, segment, 2), mismatch_weights(plain, close, sampler, segment, 2)
    )
    with pytest.raises(ValueError, match="veto"):
        MismatchConfig(veto=1e-4)
