"""Who may share a device: refused before anything starts, with the way out."""

from __future__ import annotations

import pytest

from raylign.config.compose import compose
from raylign.errors import ConfigError, Problem


def problems_of(*overrides: str) -> dict[str, Problem]:
    try:
        compose(["recipe=grpo", *overrides])
    except ConfigError as error:
        return {problem.key: problem for problem in error.problems}
    return {}


@pytest.mark.parametrize("share", [0.1, 0.4, 0.5])
def test_two_ranks_on_one_gpu_are_refused(share: float) -> None:
    problem = problems_of("scale=gpu", "learner.ranks=2", f"learner.gpus={share}")["learner.gpus"]
    assert "NCCL" in problem.why and "above 0.5" in problem.fix
    critic = problems_of("scale=gpu", "variant=ppo", "critic.ranks=2", f"learner.gpus={share}")
    assert "critic.ranks=2" in critic["learner.gpus"].why


@pytest.mark.parametrize("fine", [["learner.ranks=2", "learner.gpus=0.6"], ["learner.ranks=1", "learner.gpus=0.4"]])
def test_ranks_with_a_gpu_of_their_own_are_not(fine: list[str]) -> None:
    assert "learner.gpus" not in problems_of("scale=gpu", *fine)
    assert problems_of("scale=tiny", "learner.ranks=2") == {}


def test_tensor_parallel_engines_take_whole_gpus_and_processes() -> None:
    problems = problems_of("scale=node", "rollout.tensor_parallel=2", "rollout.engine=in_process")
    assert problems["rollout.gpus"].fix == "set rollout.gpus=2" and "async_llm" in problems["rollout.engine"].fix
    assert "rollout.gpus" not in problems_of("scale=node", "rollout.tensor_parallel=2", "rollout.gpus=2")
