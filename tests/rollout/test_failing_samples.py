"""What comes from outside costs a sample, not the run; too many failed samples end it with their own reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from raylign.actors.environments.host import EnvironmentHost, encodable
from raylign.actors.rollout.worker import RolloutWorker
from raylign.contracts import Refused, RolloutTask, Sampling, Scored
from raylign.environment import Environment, Observation
from raylign.errors import DataError, EngineDeadError, RequestError, RewardError
from raylign.evaluate import Evaluator
from raylign.loop.collect import collect
from raylign.loop.reward_metrics import most_common_reason, refuse_missing, reward_metrics
from raylign.objectives.shaping import WeightedSum
from raylign.records import Group, Missing, Prompt, Trajectory, Value
from raylign.testing import FakeRewards, FakeRollouts, call, trajectory

PROMPT = Prompt(id="p", messages=(), token_ids=np.array([1], np.int32))
TASK = RolloutTask(prompt=PROMPT, n=4, sampling=Sampling(max_tokens=4), run_seed=1)


def drawn(index: int) -> Trajectory:
    return trajectory(call("x"), prompt_key=PROMPT.key, sample_index=index)


class Raising:
    """A strategy whose second sample meets an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def run(self, task: RolloutTask, policy: Any) -> AsyncIterator[Trajectory]:
        yield drawn(0)
        raise self.error


def worker(error: Exception) -> RolloutWorker:
    made: Any = RolloutWorker.__new__(RolloutWorker)  # without its engine
    made._own, made._engine = None, None
    made._strategy = lambda spec: Raising(error)
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TypeError("TextEncodeInput must be Union[...]"), "TypeError: TextEncodeInput"),
        (ValueError("System role not supported"), "ValueError: System role"),
        (RequestError("prompt of 900 tokens"), "prompt of 900 tokens"),
        (UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed"), "UnicodeEncodeError"),
    ],
)
async def test_an_error_costs_the_samples_of_its_task(error: Exception, reason: str) -> None:
    delivered: list[Scored] = []
    await worker(error)._run(0, TASK, delivered.append)
    assert [item.trajectory.sample_index for item in delivered] == [0, 1, 2, 3]
    assert not delivered[0].error and all(item.error.startswith(reason) for item in delivered[1:])


async def test_a_dead_engine_is_no_failed_sample() -> None:
    with pytest.raises(EngineDeadError):
        await worker(EngineDeadError("gone"))._run(0, TASK, lambda item: None)


def rollouts(failing: int) -> FakeRollouts:
    """Fails as many samples of every task as it is told."""
    refused = [Refused(sample_index=index, reason="no chat template") for index in range(failing)]
    return FakeRollouts(lambda task, index: refused[index] if index < failing else "x")


def rewards(readable: bool = True) -> FakeRewards:
    """Every answer is right, or unreadable."""
    verdict = Value(score=1.0) if readable else Missing(reason="the judge is unreadable")
    return FakeRewards({"correct": lambda prompt, said: verdict})


def shaper() -> WeightedSum:
    return WeightedSum(WeightedSum.Config(), {"correct": 1.0}, 4)


async def groups_of(failing: int, readable: bool = True) -> list[Group]:
    collected = await collect([TASK, TASK], rollouts(failing), rewards(readable), 5.0)
    return shaper().score(collected.groups)


async def test_failed_samples_have_a_limit_of_their_own() -> None:
    groups = await groups_of(3)
    metrics = reward_metrics(groups)
    assert (metrics["missing/rollout"], metrics["missing/share"]) == (0.75, 0.75)
    with pytest.raises(RewardError, match=r"6 of 8 .*\(limit 50%\); 6 times: no chat template.*rollout.max_mis"):
        refuse_missing(groups, {"rollout": 0.5, "correct": 0.5})
    refuse_missing(groups, {"rollout": 0.75, "correct": 0.5})
    assert most_common_reason(groups) == "rollout: no chat template (6 times)"
    whole = reward_metrics(await groups_of(0))
    assert (whole["missing/rollout"], whole["missing/share"]) == (0, 0)


@pytest.mark.parametrize(("failing", "readable", "why"), [(4, True, "no chat template"), (0, False, "unreadable")])
@pytest.mark.parametrize("limited", [True, False])
async def test_an_evaluation_of_nothing_is_no_result(failing: int, readable: bool, why: str, limited: bool) -> None:
    evaluator = Evaluator(
        rollouts=rollouts(failing),
        rewards=rewards(readable),
        weights={"correct": 1.0},
        shaper=shaper(),
        sampling=TASK.sampling,
        seed=1,
        missing_limits={"rollout": 0.5, "correct": 0.5} if limited else {},
    )
    with pytest.raises(RewardError, match=why):
        await evaluator.run([PROMPT], samples=4, greedy=False)
    with pytest.raises(DataError, match=r"data\.holdout"):
        await evaluator.run([])
    evaluation = await replace(evaluator, rollouts=rollouts(1), rewards=rewards()).run([PROMPT], 4, False)
    assert evaluation.metrics["eval/score"] == 1.0 and evaluation.metrics["eval/missing/share"] == 0.25


class Broken(Environment):
    """An environment that speaks in half surrogates."""

    @dataclass
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        pass

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        return Observation(messages=({"role": "user", "content": "hi \ud83d there"},))

    def step(self, action: str) -> Observation:
        return Observation(messages=({"role": "tool", "content": [{"text": "\udc00", "n": 1}]},), done=True)


async def test_half_surrogates_of_an_environment_become_replacement_characters() -> None:
    host = EnvironmentHost({"_target_": f"{__name__}.Broken"})
    number, first = await host.open(PROMPT, 1)
    assert first.messages[0]["content"] == "hi \ufffd there"
    assert (await host.step(number, "x")).messages[0]["content"] == [{"text": "\ufffd", "n": 1}]
    assert encodable("\ud83d\ude00 ü") == "\U0001f600 ü", "a whole pair is a letter"
    assert encodable({"\ud83d": ("a", None, 1)}) == {"\ufffd": ("a", None, 1)}
