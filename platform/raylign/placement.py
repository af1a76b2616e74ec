"""One placement group per run: one bundle per actor, removed when the driver ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raylign.errors import PlanError
from raylign.plan import Plan


@dataclass(frozen=True, slots=True)
class Placement:
    """A plan with the resources reserved. Not detached: a dead driver frees everything.

    Example: ``Learner.options(**placement.options("learner", rank)).remote(...)``
    """

    plan: Plan
    group: PlacementGroup

    @classmethod
    def create(cls, plan: Plan, run_id: str, timeout: float) -> Placement:
        """Reserve all bundles of a plan in a group named ``raylign-<run id>``.

        timeout: seconds. Raises PlanError with demand and supply when they are not free by then.
        """
        group = placement_group(plan.bundles, strategy=plan.strategy, name=f"raylign-{run_id}")
        if group.wait(timeout):
            return cls(plan, group)
        remove_placement_group(group)
        free, total = ray.available_resources(), ray.cluster_resources()
        supply = ", ".join(
            f"{free.get(kind, 0.0):g} of {total.get(kind, 0.0):g} {kind} free" for kind in ("CPU", "GPU")
        )
        raise PlanError(
            f"the cluster did not give the plan's resources in {timeout:g} s.\n"
            f"  demand: {plan.cpus:g} CPU, {plan.gpus:g} GPU in {len(plan.bundles)} bundles, {plan.strategy}\n"
            f"  supply: {supply}\n"
            "another job holds them (see `ray status`), or cluster.ready_timeout_s is too short for the autoscaler"
        )

    def options(self, role: str, index: int) -> dict[str, Any]:
        """For ``ActorClass.options(**...)`` of one actor. Raises KeyError, IndexError for an actor not in the plan."""
        planned = self.plan.role(role)
        return {
            "num_cpus": planned.cpus,
            "num_gpus": planned.gpus,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                placement_group=self.group,
                placement_group_bundle_index=self.plan.bundle_index(role, index),
                placement_group_capture_child_tasks=True,
            ),
        }

    def remove(self) -> None:
        """Give the resources back; actors that still live in the group are killed by Ray."""
        remove_placement_group(self.group)
