"""Multi-turn episodes on a real engine: token in, token out, limits, crashes, and episodes that do not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.reward.episode import Earned, EpisodeReturn
from raylign.actors.rollout.engine import Engine
from raylign.actors.rollout.multi_turn import MultiTurn
from raylign.contracts import Refused, RolloutTask, Sampling
from raylign.records import Group, Prompt, StopReason, Trajectory
from raylign.testing import rows_of

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def task(engine: Engine) -> RolloutTask:
    messages = ({"role": "user", "content": "start 10"},)
    ids = engine.tokenizer.apply_chat_template(
        [dict(m) for m in messages], tokenize=True, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    prompt = Prompt(id="p", messages=messages, token_ids=np.array(ids, np.int32), meta={"env_seed": 10})
    return RolloutTask(prompt=prompt, n=6, sampling=Sampling(max_tokens=7), run_seed=3)


@pytest.fixture
def play(engine: Engine, run: Callable[..., Any]) -> Callable[..., list[Any]]:
    def rollout(task: RolloutTask, config: MultiTurn.Config | None = None, **environment: Any) -> list[Any]:
        async def all_of_them() -> list[Any]:
            host = EnvironmentHost({"_target_": "environments.Dice", **environment})
            strategy = MultiTurn(config or MultiTurn.Config(), host)
            trajectories = [trajectory async for trajectory in strategy.run(task, engine)]
            assert host.episodes == 0
            return sorted(trajectories, key=lambda trajectory: trajectory.sample_index)

        return run(all_of_them())

    return rollout


def ids_of(trajectory: Trajectory, prompt: Prompt) -> np.ndarray:
    parts = [prompt.token_ids]
    for call in trajectory.calls:
        parts += [call.context_ids, call.token_ids]
    return np.concatenate(parts)


def test_an_episode_from_start_to_end(task: RolloutTask, play: Callable[..., Any], engine: Engine, run: Any) -> None:
    trajectories = play(task, length=4)
    assert [trajectory.sample_index for trajectory in trajectories] == list(range(6))
    for trajectory in trajectories:
        assert trajectory.stop is StopReason.DONE
        assert len(trajectory.calls) == 4
        assert trajectory.metrics["episode/total"] == 10 + sum(call.reward for call in trajectory.calls)
        assert trajectory.metrics["episode/return"] == sum(call.reward for call in trajectory.calls)
        assert trajectory.metrics["episode/cut"] == 0.0
        assert trajectory.calls[0].context_ids.size == 0
        for before, turn in zip(trajectory.calls, trajectory.calls[1:], strict=False):
            told = f"<|user|>{before.flags['total']}:{len(before.text)}<|end|><|assistant|>"
            expected = told if before.stop is StopReason.EOS else f"<|end|>{told}"
            assert engine.tokenizer.decode(turn.context_ids) == expected
        # The engine's own scoring of the whole row gives the log-probs that the tokens were sampled with.
        whole = ids_of(trajectory, task.prompt)
        scored = run(engine.score(whole, 1))
        sample = rows_of([Group(prompt=task.prompt, trajectories=(trajectory,), scores=(1.0,))]).batch
        mask = sample["loss_mask"]
        np.testing.assert_array_equal(sample["token_ids"], whole)
        np.testing.assert_allclose(sample["sampler_logprob"][1:][mask[1:]], scored[mask[1:]], atol=2e-4)


def test_the_same_episodes_again_and_whichever_samples_are_asked_for(
    task: RolloutTask, play: Callable[..., Any]
) -> None:
    trajectories = play(task)
    again = play(replace(task, indices=(4, 1)))
    for trajectory in again:
        other = trajectories[trajectory.sample_index]
        np.testing.assert_array_equal(ids_of(trajectory, task.prompt), ids_of(other, task.prompt))
        assert [call.reward for call in trajectory.calls] == [call.reward for call in other.calls]
    assert len({tuple(call.reward for call in trajectory.calls) for trajectory in trajectories}) > 1
    shared = play(task, MultiTurn.Config(shared_noise=True))
    assert len({tuple(call.reward for call in trajectory.calls) for trajectory in shared}) == 1


def test_limits_and_typed_stop_reasons(task: RolloutTask, play: Callable[..., Any]) -> None:
    for one in play(task, MultiTurn.Config(max_turns=2)):
        assert (one.stop, len(one.calls)) == (StopReason.TURNS, 2)
        assert one.metrics["episode/cut"] == 1.0
    for one in play(task, MultiTurn.Config(max_turns=50, max_episode_tokens=16), length=50):
        assert one.stop is StopReason.LENGTH
        assert one.response_length == 16
    long = replace(task, sampling=Sampling(max_tokens=60))
    for one in play(long, MultiTurn.Config(max_turns=50), length=50):
        assert one.stop is StopReason.LENGTH
        assert len(ids_of(one, task.prompt)) <= 256  # the context of the engine


def test_a_broken_environment_changes_nothing(task: RolloutTask, play: Callable[..., Any], tmp_path: Path) -> None:
    switch = tmp_path / "breaks"
    switch.write_text("3")
    expected = play(task)
    trajectories = play(task, breaks=str(switch))
    assert switch.read_text() == "0"
    for trajectory, other in zip(trajectories, expected, strict=True):
        np.testing.assert_array_equal(ids_of(trajectory, task.prompt), ids_of(other, task.prompt))


def test_an_environment_that_cannot_live_refuses_its_sample(
    task: RolloutTask, play: Callable[..., Any], tmp_path: Path
) -> None:
    switch = tmp_path / "breaks"
    switch.write_text("10000")
    refused = play(task, MultiTurn.Config(retries=1), breaks=str(switch))
    assert all(isinstance(sample, Refused) for sample in refused)
    assert "the die rolled off the table" in refused[0].reason


def test_turn_streams_of_the_learners_rows(task: RolloutTask, play: Callable[..., Any]) -> None:
    trajectories = play(task, length=3)
    scores = tuple(float(index) for index in range(6))
    call_scores = tuple(
        np.arange(len(trajectory.calls), dtype=np.float32) + 10 * trajectory.sample_index for trajectory in trajectories
    )
    group = Group(prompt=task.prompt, trajectories=tuple(trajectories), scores=scores, call_scores=call_scores)
    batch = rows_of([group]).batch
    for index, trajectory in enumerate(trajectories):
        mask, call = batch.row(index, "loss_mask"), batch.row(index, "call")
        assert set(call[~mask]) <= {-1.0}
        for number, turn in enumerate(trajectory.calls):
            here = call == number
            assert here.sum() == len(turn.token_ids)
            assert (batch.row(index, "turn_score")[here] == 10 * index + number).all()
            rewards = batch.row(index, "turn_reward")[here]
            assert rewards[-1] == turn.reward
            assert not rewards[:-1].any()
    assert not batch["turn_reward"][~batch["loss_mask"]].any()


def test_the_episodes_own_return_as_a_reward(task: RolloutTask, play: Callable[..., Any]) -> None:
    one = play(task, length=3)[0]
    value = EpisodeReturn(EpisodeReturn.Config()).score(task.prompt, [one])[0]
    assert value.score == sum(call.reward for call in one.calls)
    np.testing.assert_array_equal(value.channels["turns"], [call.reward for call in one.calls])
    total = EpisodeReturn(EpisodeReturn.Config(earned=Earned.flag, flag="total")).score(task.prompt, [one])[0]
    assert total.score == one.calls[-1].flags["total"]
    with pytest.raises(ValueError, match="has no flag success; it has total, roll"):
        EpisodeReturn(EpisodeReturn.Config(earned=Earned.flag)).score(task.prompt, [one])
    silent = replace(one, calls=tuple(replace(call, reward=None) for call in one.calls))
    with pytest.raises(ValueError, match="gave no reward"):
        EpisodeReturn(EpisodeReturn.Config()).score(task.prompt, [silent])


def test_episodes_do_not_wait_for_one_another(task: RolloutTask, engine: Engine, run: Callable[..., Any]) -> None:
    """One episode's environment is stuck until all others are over."""

    async def stuck() -> list[int]:
        host = EnvironmentHost({"_target_": "environments.Dice"})
        released, order, step = asyncio.Event(), [], host.step

        async def slow(episode: int, action: str) -> Any:
            if episode == 2:
                await released.wait()
            return await step(episode, action)

        host.step = slow  # type: ignore[method-assign]
        async for one in MultiTurn(MultiTurn.Config(), host).run(task, engine):
            order.append(one.sample_index)
            if len(order) == 5:
                released.set()
        return order

    order = run(stuck())
    assert len(order) == 6
    assert order[-1] == 2
