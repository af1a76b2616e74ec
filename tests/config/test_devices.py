"""Who may share a device: refused before anything starts, with the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from raylign.actors.reward import reward_model
from raylign.config.compose import compose
from raylign.config.schema import Node, node
from raylign.contracts import Embedder, RewardFunction
from raylign.errors import ConfigError, PlanError, Problem
from raylign.plan import make_plan
from raylign.records import Prompt, Trajectory, Value


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


class Alike(RewardFunction):
    """Compares vectors."""

    @dataclass
    class Config:
        """How they are made."""

        embedder: Node = node(Embedder)

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        return [Value(score=0.0) for _ in trajectories]


def alike(device: str, gpus: float) -> list[str]:
    embedder = f"{{_target_: raylign.actors.embed.model.ModelEmbedder, path: x, device: '{device}'}}"
    fn = f"{{_target_: {__name__}.Alike, embedder: {embedder}}}"
    room = ["data.task=basic_arithmetic", "data.size=9", "model.tiny.context=8192"]
    return ["scale=gpu", *room, f"run.allow_targets=[{__name__}.]", f"+rewards.alike={{fn: {fn}, gpus: {gpus}}}"]


def test_a_reward_that_names_a_gpu_has_one() -> None:
    key = "rewards.alike.fn.embedder.device"
    problem = problems_of(*alike("cuda:0", 0))[key]
    assert "rewards.alike.gpus=0" in problem.why and "set rewards.alike.gpus=0.2 or more" in problem.fix
    assert problems_of(*alike("cuda", 0.5)) == problems_of(*alike("cpu", 0)) == {}
    assert "given whole" in problems_of(*alike("cuda", 1.5))["rewards.alike.gpus"].why


def test_gpus_of_rewards_are_planned_and_missed_where_there_are_none() -> None:
    run = compose(["recipe=grpo", *alike("cuda", 0.5), "rewards.alike.workers=2"])
    plan = make_plan(run)
    role = plan.role("reward/alike")
    assert (role.actors, role.gpus) == (2, 0.5) and plan.gpus == pytest.approx(0.4 + 0.4 + 2 * 0.5)
    with pytest.raises(PlanError, match=r"missing: 0\.8 GPU"):
        plan.check([{"CPU": 64.0, "GPU": 1.0}])


def test_a_large_reward_model_is_not_left_to_a_cpu(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    sizes = {"parameters": 8_000_000_000, "context": 256}
    monkeypatch.setattr(reward_model, "model_facts", lambda *_: SimpleNamespace(**sizes))
    monkeypatch.setattr(reward_model, "_fault", lambda config: None)
    fn = f"{{_target_: raylign.actors.reward.reward_model.RewardModel, model: '{tiny_model}'}}"
    taste = f"+rewards.taste={{fn: {fn}, gpus: "
    problem = problems_of("scale=gpu", f"{taste}0}}")["rewards.taste.gpus"]
    assert "a reward model of 8.0 billion parameters to the CPU" in problem.why
    for fine in (["scale=gpu", f"{taste}0.2}}"], ["scale=tiny", f"{taste}0}}"]):
        assert "rewards.taste.gpus" not in problems_of(*fine)
