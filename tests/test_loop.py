"""The loop over scripted parts: order, dynamic sampling, missing rewards, dropped groups, resumption of its state.

The engines' own behaviour is tested where they live; the fakes here (`scripted_loop`) give exactly known numbers, so
that the controller's arithmetic can be checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_loop import Size, first_token, make

from raylign.batch import Batch
from raylign.contracts import LearnerUpdate, RolloutTask, Sampling, Scored, StrategySpec
from raylign.errors import EngineDeadError, RewardError
from raylign.evaluate import Evaluator
from raylign.loop import Loop, minibatches
from raylign.objectives.advantage.group import GRPO
from raylign.objectives.selection import Chain, TopK
from raylign.objectives.shaping import WeightedSum
from raylign.records import Float32s, Missing, Prompt, Reward, StopReason, Trajectory, Value
from raylign.testing import FakeLearner, FakeRewards, FakeRollouts, prompt


async def test_groups_come_in_task_order_whatever_the_order_of_arrival() -> None:
    loop = make(first_token)
    result = await loop.step(0)
    keys = [group.prompt.key for group in result.groups]
    assert keys == [task.prompt.key for task in loop.parts.rollouts.asked]  # type: ignore[attr-defined]
    assert all([t.sample_index for t in group.trajectories] == [0, 1, 2] for group in result.groups)
    assert result.metrics["reward/size"] == 3.0
    assert loop.parts.rollouts.published == [1] and loop.version == 1  # type: ignore[attr-defined]
    batch = loop.parts.learner.batches[0]  # type: ignore[attr-defined]
    for group in range(4):
        rows = np.flatnonzero(batch.groups == group)
        scores = np.array([batch.row(i, "token_ids")[3] for i in rows], float)
        expected = (scores - scores.mean()) / (scores.std(ddof=1) + 1e-6) if np.ptp(scores) else scores * 0
        np.testing.assert_allclose([batch.row(i, "advantage")[-1] for i in rows], expected, rtol=1e-5)
        assert all(batch.row(i, "advantage")[0] == 0 for i in rows), "advantage off the sampled tokens"


async def test_missing_reward_leaves_the_statistics_and_is_never_zero() -> None:
    def half(prompt: Prompt, trajectory: Trajectory) -> Reward:
        if trajectory.sample_index == 0:
            return Missing(reason="judge unreachable")
        return Value(score=float(trajectory.sample_index))

    loop = make(half)
    result = await loop.step(0)
    assert result.metrics["missing/rule"] == pytest.approx(1 / 3)
    assert result.metrics["reward/mean"] == 1.5, "a missing reward must not pull the mean down"
    assert result.batch is not None and len(result.batch) == 8


async def test_group_with_fewer_than_two_valid_samples_leaves_whole() -> None:
    def lonely(prompt: Prompt, trajectory: Trajectory) -> Reward:
        if prompt.id in ("p0", "p1") and trajectory.sample_index > 0:
            return Missing(reason="timeout")
        return Value(score=float(trajectory.sample_index))

    loop = make(lonely, count=4)
    result = await loop.step(0)
    assert result.metrics["groups/dropped"] == 2.0
    assert {group.prompt.id for group in result.groups} == {"p2", "p3"}


async def test_nothing_valid_means_no_update_and_no_new_version() -> None:
    loop = make(lambda p, t: Missing(reason="down"), count=4, missing_limits={"rule": 1.0})
    result = await loop.step(0)
    assert result.batch is None and loop.version == 0
    assert not loop.parts.learner.batches  # type: ignore[attr-defined]


async def test_too_many_missing_rewards_end_the_run_by_name() -> None:
    loop = make(lambda p, t: Missing(reason="connection refused"), missing_limits={"rule": 0.5})
    with pytest.raises(RewardError, match=r"reward rule is missing for 12 of 12.*connection refused"):
        await loop.step(0)


async def test_dynamic_sampling_refills_and_is_bounded() -> None:
    def only_even(prompt: Prompt, trajectory: Trajectory) -> Reward:
        even = int(prompt.id[1:]) % 2 == 0
        return Value(score=float(trajectory.sample_index) if even else 1.0)

    loop = make(only_even, count=24, dynamic_sampling=True, sampling_rounds=8)
    result = await loop.step(0)
    assert len(result.groups) == 4 and all(int(group.prompt.id[1:]) % 2 == 0 for group in result.groups)
    assert result.metrics["groups/rounds"] > 1
    never = make(lambda p, t: Value(score=1.0), dynamic_sampling=True, sampling_rounds=3)
    result = await never.step(0)
    assert result.metrics["groups/rounds"] == 3 and result.batch is None


async def test_a_selector_stands_between_scores_and_advantage() -> None:
    selector = Chain(
        Chain.Config(
            parts=[
                {"_target_": "raylign.objectives.selection.VarianceFilter", "ratio": 0.5},
                {"_target_": "raylign.objectives.selection.TopK", "keep": 2},
            ]
        ),
        seed=1,
    )
    observed: list[int] = []
    loop = make(first_token, selector=selector)
    loop.parts.source.observe = lambda groups: observed.append(len(groups))  # type: ignore[method-assign]
    result = await loop.step(0)
    assert [len(group.trajectories) for group in result.groups] == [2, 2]
    assert len(loop.parts.learner.batches[0]) == 4  # type: ignore[attr-defined]
    assert result.metrics["select/trajectories_discarded"] == 8
    assert result.metrics["tokens/sampled"] == 24, "what was discarded was sampled all the same"
    assert observed == [4], "a curriculum sees what was sampled, not what was selected"


async def test_dynamic_sampling_fills_before_the_selection_and_drops_what_it_made_equal() -> None:
    def tail(prompt: Prompt, trajectory: Trajectory) -> Reward:
        if int(prompt.id[1:]) % 2:
            return Value(score=1.0)
        return Value(score=float(trajectory.sample_index > 0) if prompt.id == "p0" else float(trajectory.sample_index))

    loop = make(
        tail,
        count=12,
        dynamic_sampling=True,
        sampling_rounds=8,
        prompts_per_step=6,
        selector=TopK(TopK.Config(keep=2), seed=1),
    )
    result = await loop.step(0)
    assert result.metrics["groups/rounds"] > 1
    assert result.metrics["select/groups_kept"] == 6
    assert "p0" not in {group.prompt.id for group in result.groups}, "its two best are equal"
    assert len(result.groups) == 5
    assert all(len(group.trajectories) == 2 for group in result.groups)


async def test_a_selector_meets_missing_scores() -> None:
    def half(prompt: Prompt, trajectory: Trajectory) -> Reward:
        if trajectory.sample_index == 0:
            return Missing(reason="judge unreachable")
        return Value(score=float(trajectory.sample_index))

    loop = make(half, selector=TopK(TopK.Config(keep=2), seed=1))
    result = await loop.step(0)
    assert result.batch is not None and len(result.batch) == 8
    assert all(None not in group.scores for group in result.groups if len(group.trajectories) == 2)


async def test_a_stages_own_strategy_is_for_training_and_not_for_evaluations() -> None:
    made, own, seen = make(first_token), StrategySpec(node={"_target_": "a.Search"}), list[RolloutTask]()
    loop = Loop(made.parts, replace(made.settings, strategy=own))
    stream = loop.parts.rollouts.stream

    async def watched(tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        seen.extend(tasks)
        async for items in stream(tasks):
            yield items

    loop.parts.rollouts.stream = watched  # type: ignore[method-assign]
    evaluator = Evaluator(
        rollouts=loop.parts.rollouts,
        rewards=loop.parts.rewards,
        weights={"rule": 1.0},
        shaper=loop.parts.shaper,
        sampling=Sampling(max_tokens=8),
        seed=1,
    )
    await evaluator.run([prompt(0)], samples=3, greedy=False)
    await loop.step(0)
    assert [task.strategy for task in seen] == [None, own, own, own, own]


class Counting(FakeLearner):
    """Its metrics count its updates."""

    async def update(self, batch: Batch, objective: Mapping[str, Any]) -> LearnerUpdate:
        done = await super().update(batch, objective)
        return replace(done, metrics={"loss": float(self.updates), "max/gap": float(self.updates)})


async def test_minibatches_split_whole_groups_and_cover_all() -> None:
    loop = make(first_token, prompts_per_step=6, minibatches=3, epochs=2, learner=Counting())
    result = await loop.step(0)
    batches = loop.parts.learner.batches  # type: ignore[attr-defined]
    assert len(batches) == 6
    for epoch in (batches[:3], batches[3:]):
        assert sorted(g for batch in epoch for g in set(batch.groups.tolist())) == [0, 1, 2, 3, 4, 5]
        assert all(len(set(batch.groups.tolist())) == 2 and len(batch) == 6 for batch in epoch)
    assert result.metrics["max/gap"] == 6.0 and result.metrics["loss"] == 3.5
    again = minibatches(result.batch, 3, seed=(1, 0, 0))  # type: ignore[arg-type]
    assert [set(b.groups.tolist()) for b in again] == [set(b.groups.tolist()) for b in batches[:3]]


async def test_state_restores_the_cursor(tmp_path: Path) -> None:
    whole, broken = make(first_token, count=10), make(first_token, count=10)
    for step in range(4):
        await whole.step(step)
    for step in range(2):
        await broken.step(step)
    resumed = make(first_token, count=10)
    await broken.save(tmp_path)
    await resumed.restore(tmp_path, broken.state_dict())
    await resumed.publish()
    for step in range(2, 4):
        await resumed.step(step)
    assert resumed.version == 4
    asked = [[task.prompt.key for task in loop.parts.rollouts.asked] for loop in (whole, resumed)]  # type: ignore[attr-defined]
    assert asked[1] == asked[0][8:]
    learners: list[Any] = [whole.parts.learner, resumed.parts.learner]
    np.testing.assert_array_equal(learners[0].logits, learners[1].logits)


async def test_silence_is_an_error() -> None:
    loop = make(first_token, stall_s=0.05)

    async def silent(tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        await asyncio.sleep(10)
        yield []

    loop.parts.rollouts.stream = silent  # type: ignore[method-assign]
    with pytest.raises(EngineDeadError, match="no trajectory finished"):
        await loop.step(0)


async def test_sample_refused_by_the_engine_has_no_reward_and_no_loss() -> None:
    loop = make(first_token)
    whole = loop.parts.rollouts.stream

    async def refusing(tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        async for (item,) in whole(tasks):
            if item.task == 0 and item.trajectory.sample_index == 1:
                empty = replace(item.trajectory, calls=(), stop=StopReason.ABORT)
                item = replace(item, trajectory=empty, error="prompt of 900 tokens exceeds the context of 512")
            yield [item]

    loop.parts.rollouts.stream = refusing  # type: ignore[method-assign]
    result = await loop.step(0)
    assert result.groups[0].scores[1] is None and None not in result.groups[0].scores[::2]
    assert result.batch is not None and len(result.batch) == 11
    assert [result.metrics[f"missing/{name}"] for name in ("rollout", "share")] == pytest.approx([1 / 12] * 2)


async def test_mask_truncated_keeps_the_score_and_drops_the_loss() -> None:
    loop = make(first_token, mask_truncated=True)
    whole = loop.parts.rollouts.stream

    async def cutting(tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        async for (item,) in whole(tasks):
            cut = item.trajectory.sample_index == 0
            yield [replace(item, trajectory=replace(item.trajectory, stop=StopReason.LENGTH))] if cut else [item]

    loop.parts.rollouts.stream = cutting  # type: ignore[method-assign]
    result = await loop.step(0)
    assert result.batch is not None and len(result.batch) == 12
    assert all(not result.batch.row(i, "weight").any() for i in range(0, 12, 3))


async def test_lost_sample_is_an_error() -> None:
    loop = make(first_token)
    whole = loop.parts.rollouts.stream

    async def leaky(tasks: Sequence[RolloutTask]) -> AsyncIterator[list[Scored]]:
        first = True
        async for scored in whole(tasks):
            if not first:
                yield scored
            first = False

    loop.parts.rollouts.stream = leaky  # type: ignore[method-assign]
    with pytest.raises(EngineDeadError, match="2 of 3 draws"):
        await loop.step(0)


async def test_an_evaluation_scores_by_the_rewards_alone_and_logs_what_the_shaper_sees() -> None:
    """DAPO's overlong penalty, as any shaping, is for training; a held-out score is no place for it."""
    penalty = WeightedSum.Config(overlong_buffer=8, overlong_penalty=5.0)
    evaluator = Evaluator(
        rollouts=FakeRollouts(),
        rewards=FakeRewards({"rule": first_token, "size": Size(Size.Config())}),
        weights={"rule": 0.5, "size": 0.0},
        shaper=WeightedSum(penalty, weights={"rule": 0.5, "size": 0.0}, max_tokens=8),
        sampling=Sampling(max_tokens=8),
        seed=1,
        stall_s=5.0,
    )
    prompts = [replace(prompt(i), domain=("even", "odd")[i % 2]) for i in range(4)]
    evaluation = await evaluator.run(prompts, samples=3, greedy=False)
    tokens = [[t.calls[0].token_ids[0] for t in group.trajectories] for group in evaluation.groups]
    assert evaluation.score == pytest.approx(0.5 * np.mean(tokens))
    assert evaluation.metrics["eval/best"] == pytest.approx(0.5 * np.mean(np.max(tokens, axis=1)))
    assert evaluation.metrics["eval/reward/overlong"] == -1.25
    assert evaluation.metrics["eval/length/mean/even"] == evaluation.metrics["eval/length/mean/odd"] == 2
    assert evaluation.metrics["eval/reward/rule/odd"] == pytest.approx(np.mean(tokens[1::2]))


class Unscored(GRPO):
    """Every sampled token counts as much, whatever was scored."""

    reads_scores = False

    def assign(self, batch: Batch, scores: Float32s) -> Any:
        return super().assign(batch, np.arange(len(scores), dtype=np.float32))


async def test_one_missing_verdict_costs_no_row_its_record() -> None:
    def but_one(prompt: Prompt, trajectory: Trajectory) -> Reward:
        lost = trajectory.sample_index == 1
        return Missing(reason="judge unreachable") if lost else Value(score=float(trajectory.sample_index))

    loop = make(but_one)
    loop.parts = replace(loop.parts, advantage=Unscored(Unscored.Config()))
    result = await loop.step(0)
    assert result.batch is not None and len(result.places) == len(result.batch) == 12
    assert [(place.group, place.trajectory) for place in result.places] == [
        (group, sample) for group in range(4) for sample in range(3)
    ]
