"""Rewards that score several items in one call: one bad item costs its neighbours nothing, and is charged alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batched_rewards import Batched

from raylign.actors.reward.outcome import Failed, Item
from raylign.actors.reward.pools import RewardPools
from raylign.actors.reward.response import trajectory_of
from raylign.actors.reward.worker import RewardWorker
from raylign.config.schema import RewardConfig
from raylign.errors import RewardError
from raylign.records import Missing, Prompt, Value

NODE = {"_target_": "batched_rewards.Batched"}


def item(text: str, number: int = 0) -> Item:
    prompt = Prompt(id=f"p{number}", messages=(), token_ids=np.zeros(1, np.int32))
    return prompt, (trajectory_of(prompt, text),)


def worker(**fields: Any) -> RewardWorker:
    Batched.calls.clear()
    return RewardWorker({**NODE, **fields}, "rewards.r.fn", 10.0, "")


def shown(outcomes: Sequence[Any]) -> list[float | str]:
    return [outcome.reason if isinstance(outcome, Failed) else outcome[0].score for outcome in outcomes]


def test_items_of_one_moment_are_one_call() -> None:
    outcomes, _ = worker().score([item("1"), item("2"), item("3")])
    assert shown(outcomes) == [1.0, 2.0, 3.0] and Batched.calls == [3]
    assert worker().report().batched


def test_an_item_that_the_function_marks_fails_alone() -> None:
    outcomes, _ = worker().score([item("1"), item("marked"), item("3")])
    assert shown(outcomes) == [1.0, "ValueError: marked", 3.0] and Batched.calls == [3]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("raise", "ValueError: raise"),
        ("exit", "SystemExit: 3"),
        ("short", "ValueError: the reward function returned 0 values for 1 trajectories"),
        ("nan", "ValueError: the score is nan"),
    ],
)
def test_a_call_that_fails_is_taken_apart_and_only_the_bad_item_pays(bad: str, reason: str) -> None:
    outcomes, _ = worker().score([item("1"), item(bad), item("3")])
    assert shown(outcomes) == [1.0, reason, 3.0]
    assert Batched.calls == ([3] if bad in ("short", "nan") else [3, 1, 1, 1])


def test_too_few_results_are_nobody_s_and_each_is_asked_again() -> None:
    outcomes, _ = worker(lose=True).score([item("1"), item("2"), item("3")])
    assert shown(outcomes) == [1.0, 2.0, 3.0] and Batched.calls == [3, 1, 1, 1]


def test_a_late_batch_is_not_broken_off_when_it_is_taken_apart() -> None:
    slow = worker()
    slow._timeout_s = 0.0
    outcomes, _ = slow.score([item("1"), item("raise"), item("3")])
    assert len(outcomes) == 3


def test_isolated_and_batched_is_refused() -> None:
    with pytest.raises(RewardError, match=r"rewards\.r\.fn: Batched is isolated and batched.*fix: drop one"):
        worker(isolated=True)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
async def test_a_pool_sends_what_waits_in_one_call_and_charges_the_bad_item(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])

    def options(name: str, index: int) -> Mapping[str, Any]:
        return {"num_cpus": 0.1, "runtime_env": {"env_vars": {"PYTHONPATH": path}}}

    config = RewardConfig(fn=NODE, retries=0, timeout_s=3.0)
    pools = RewardPools({"r": config}, log_dir=tmp_path, options=options)
    try:
        await pools.start()
        assert pools._pools["r"]._deadline(8) == pytest.approx(9 * 3.0 + 5.0)
        asked = [item(text, number) for number, text in enumerate(["1", "raise", "3", "marked", "5"])]
        rewards = await asyncio.gather(*(pools.score(prompt, trajectory) for prompt, (trajectory,) in asked))
        assert [rewards[n]["r"] for n in (0, 2, 4)] == [Value(score=float(n + 1)) for n in (0, 2, 4)]
        assert [rewards[n]["r"] for n in (1, 3)] == [
            Missing(reason=f"ValueError: {text}") for text in ("raise", "marked")
        ]
        assert pools.metrics()["reward_pool/r/rpcs"] == 1
    finally:
        await pools.close()
