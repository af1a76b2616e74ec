"""Plans: who needs what, whether it fits, and that what is reserved is what was planned."""

from __future__ import annotations

from typing import Any

import pytest

from raylign.cli.plan import render
from raylign.config.compose import compose
from raylign.errors import PlanError
from raylign.plan import Plan, Role, make_plan

TINY = ["recipe=grpo", "scale=tiny"]


def plan_of(*overrides: str) -> Plan:
    return make_plan(compose([*TINY, *overrides]))


def roles(*entries: tuple[str, int, float, float]) -> tuple[Role, ...]:
    return tuple(
        Role(name=name, actors=actors, cpus=cpus, gpus=gpus, setting=f"{name}.ranks")
        for name, actors, cpus, gpus in entries
    )


def test_roles_follow_from_what_the_parts_need() -> None:
    names = [role.name for role in plan_of().roles]
    assert names == ["learner", "rollout", "reward/correct"]
    assert "critic" in [role.name for role in plan_of("variant=ppo").roles]
    assert "frozen/reference" in [role.name for role in plan_of("variant=grpo").roles]
    assert "frozen/reference" in [role.name for role in plan_of("advantage.kl_coef=0.1").roles]


def test_bundles_are_in_the_order_of_roles() -> None:
    plan = plan_of("learner.ranks=2", "rollout.workers=3", "rewards.correct.workers=2")
    assert len(plan.bundles) == 7
    assert plan.bundle_index("learner", 1) == 1
    assert plan.bundle_index("rollout", 0) == 2
    assert plan.bundle_index("reward/correct", 1) == 6
    assert plan.bundles[6] == {"CPU": 0.1}
    with pytest.raises(IndexError):
        plan.bundle_index("rollout", 3)
    with pytest.raises(KeyError):
        plan.bundle_index("critic", 0)


def test_batch_arithmetic() -> None:
    overrides = [
        "stages.rl.prompts_per_step=6",
        "stages.rl.group_size=4",
        "stages.rl.minibatches=3",
        "stages.rl.epochs=2",
    ]
    (batch,) = plan_of(*overrides, "objective.old_logprob=recompute").batches
    assert (batch.prompts, batch.samples, batch.updates, batch.samples_per_update) == (6, 24, 6, 8)
    assert batch.max_tokens == 24 * (128 + 8)


def test_memory_shrinks_with_the_zero_stage() -> None:
    sizes = [plan_of("learner.ranks=4", f"learner.zero_stage={stage}").role("learner").memory_gb for stage in range(4)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    role = plan_of().role("learner")
    parameters = 821_376
    assert role.memory.startswith("weights 0.00")
    assert role.memory_gb > 16 * parameters / 2**30, "weights, gradients and two moments in fp32"


def test_what_fits() -> None:
    plan = Plan(roles=roles(("learner", 2, 4, 1), ("rollout", 2, 4, 1)))
    checked = plan.check([{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 2}])
    assert sorted(checked.nodes) == [0, 0, 1, 1]
    plan = Plan(roles=roles(("learner", 3, 4, 1))).check([{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 2}])
    assert " 0-1 " in render(plan) and plan.nodes == (0, 0, 1)


def test_shares_of_a_gpu_come_from_one_device() -> None:
    plan = Plan(roles=roles(("learner", 3, 1, 0.6)))
    plan.check([{"CPU": 8, "GPU": 3}])
    with pytest.raises(PlanError, match="1 of 3 learner"):
        plan.check([{"CPU": 8, "GPU": 2}])  # 1.8 of 2 GPUs, and yet no room for the third
    thirds = Plan(roles=roles(("learner", 1, 1, 0.4), ("critic", 1, 1, 0.4), ("rollout", 1, 1, 0.2)))
    thirds.check([{"CPU": 8, "GPU": 1}])


@pytest.mark.parametrize(
    ("strategy", "fits"), [("PACK", True), ("SPREAD", True), ("STRICT_PACK", False), ("STRICT_SPREAD", True)]
)
def test_strategies(strategy: str, fits: bool) -> None:
    plan = Plan(roles=roles(("learner", 2, 4, 0)), strategy=strategy)
    nodes = [{"CPU": 4.0}, {"CPU": 4.0}]
    if fits:
        assert set(plan.check(nodes).nodes) == {0, 1}
    else:
        with pytest.raises(PlanError):
            plan.check(nodes)
    with pytest.raises(PlanError):
        Plan(roles=roles(("learner", 3, 1, 0)), strategy="STRICT_SPREAD").check(nodes)


def test_what_is_missing_is_named() -> None:
    plan = Plan(roles=roles(("learner", 4, 4, 1), ("rollout", 2, 4, 1)))
    with pytest.raises(PlanError) as caught:
        plan.check([{"CPU": 64, "GPU": 2}])
    text = str(caught.value)
    assert "demand:  24 CPU + 6 GPU" in text and "supply:  64 CPU + 2 GPU" in text and "missing: 4 GPU" in text
    assert "2 of 4 learner actors (4 CPU + 1 GPU each): learner.ranks" in text
    assert "2 of 2 rollout" in text
    with pytest.raises(PlanError, match="no node"):
        plan.check([])


@pytest.mark.ray
def test_reserved_as_planned(ray_session: None) -> None:
    import ray
    from ray.util import get_placement_group
    from ray.util.placement_group import placement_group_table

    from raylign.placement import Placement

    plan = Plan(roles=roles(("learner", 2, 1, 0), ("reward/x", 2, 0.1, 0)))
    placement = Placement.create(plan, "test-reserved", 30)

    @ray.remote
    class Probe:
        def where(self) -> Any:
            context = ray.get_runtime_context()
            return context.get_placement_group_id(), context.get_assigned_resources()

    actors = [
        Probe.options(**placement.options(role, i)).remote() for role in ("learner", "reward/x") for i in range(2)
    ]
    placed = ray.get([actor.where.remote() for actor in actors])
    assert {group for group, _ in placed} == {placement.group.id.hex()}
    assert [resources["CPU"] for _, resources in placed] == [1, 1, 0.1, 0.1]
    assert ray.available_resources()["CPU"] == pytest.approx(ray.cluster_resources()["CPU"] - plan.cpus)
    assert placement_group_table(get_placement_group("raylign-test-reserved"))["state"] == "CREATED"
    for actor in actors:
        ray.kill(actor)
    placement.remove()


@pytest.mark.ray
def test_too_much_is_refused_in_time(ray_session: None) -> None:
    from raylign.placement import Placement

    plan = Plan(roles=roles(("learner", 1, 1000, 0)))
    with pytest.raises(PlanError, match=r"demand: 1000 CPU.*\n.*supply: .* CPU free"):
        Placement.create(plan, "test-refused", 1)
