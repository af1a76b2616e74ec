"""Searches on a real engine: without a choice they are the plain rollout, bit for bit; log-probs are true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.rollout.beam import Beam
from raylign.actors.rollout.best_of_n import BestOfN
from raylign.actors.rollout.engine import Engine
from raylign.actors.rollout.lookahead import Lookahead
from raylign.actors.rollout.multi_turn import MultiTurn
from raylign.actors.rollout.search import Noise, Search
from raylign.contracts import RolloutTask, Sampling
from raylign.records import Prompt, Trajectory

pytestmark = pytest.mark.vllm
DICE = {"_target_": "environments.Dice", "length": 3}


@pytest.fixture(scope="module")
def task(engine: Engine) -> RolloutTask:
    messages = ({"role": "user", "content": "start 10"},)
    ids = engine.tokenizer.apply_chat_template(
        [dict(m) for m in messages], tokenize=True, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    prompt = Prompt(id="p", messages=messages, token_ids=np.array(ids, np.int32), meta={"env_seed": 10})
    return RolloutTask(prompt=prompt, n=4, sampling=Sampling(max_tokens=5), run_seed=3)


@pytest.fixture
def play(engine: Engine, run: Callable[..., Any]) -> Callable[..., list[Trajectory]]:
    def rollout(way: type, config: Any, task: RolloutTask) -> list[Any]:
        async def all_of_them() -> list[Any]:
            host = EnvironmentHost(DICE)
            trajectories = [trajectory async for trajectory in way(config, host).run(task, engine)]
            assert host.episodes == 0
            return sorted(trajectories, key=lambda trajectory: trajectory.sample_index)

        return run(all_of_them())

    return rollout


def same(trajectory: Trajectory, other: Trajectory) -> None:
    assert (trajectory.sample_index, trajectory.seed, trajectory.stop) == (other.sample_index, other.seed, other.stop)
    assert len(trajectory.calls) == len(other.calls)
    for mine, yours in zip(trajectory.calls, other.calls, strict=True):
        for field in ("context_ids", "token_ids", "logprobs", "versions"):
            np.testing.assert_array_equal(getattr(mine, field), getattr(yours, field))
        assert (mine.text, mine.reward, mine.flags, mine.stop) == (yours.text, yours.reward, yours.flags, yours.stop)


@pytest.mark.parametrize(
    ("way", "config"),
    [
        (Search, Search.Config()),
        (BestOfN, BestOfN.Config(attempts=1)),
        (Beam, Beam.Config(candidates=1, width=1)),
        (Beam, Beam.Config(candidates=1, width=1, simulations=2)),
        (Beam, Beam.Config(candidates=1, width=1, noise=Noise.live)),
        (Lookahead, Lookahead.Config(candidates=1, continuations=2)),
    ],
)
def test_without_a_choice_a_search_is_the_plain_rollout(way: type, config: Any, task: RolloutTask, play: Any) -> None:
    plain = play(MultiTurn, MultiTurn.Config(), task)
    for trajectory, other in zip(play(way, config, task), plain, strict=True):
        same(trajectory, other)


def test_kept_turns_carry_the_policys_own_log_probs(task: RolloutTask, play: Any, engine: Engine, run: Any) -> None:
    for trajectory in play(Beam, Beam.Config(candidates=3, width=2), task):
        ids = [task.prompt.token_ids]
        for call in trajectory.calls:
            ids += [call.context_ids, call.token_ids]
        whole, at = np.concatenate(ids), len(task.prompt.token_ids)
        scored = run(engine.score(whole, 1))
        for call in trajectory.calls:
            at += len(call.context_ids)
            np.testing.assert_allclose(scored[at - 1 : at - 1 + len(call.token_ids)], call.logprobs, atol=2e-4)
            at += len(call.token_ids)


def test_a_search_is_the_same_whoever_makes_which_sample(task: RolloutTask, play: Any) -> None:
    config = Beam.Config(candidates=3)
    whole = play(Beam, config, task)
    for trajectory in play(Beam, config, replace(task, indices=(3, 1))):
        same(trajectory, whole[trajectory.sample_index])
