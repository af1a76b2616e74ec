"""Groups of like pods that a plan fits into: how many, and how large each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from raylign.errors import PlanError
from raylign.plan import Plan, Role

PROCESS_GB = (
    2.0  # host memory of an actor besides its model: interpreter, torch, engine; a torch import alone takes 0.6
)
SPARE = 1.25  # on every estimate of host memory


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShape:
    """The largest pod that the cluster's machines can hold."""

    cpus: int = 32
    gpus: int = 8
    memory_gb: int = 0  # of one pod; 0: estimated from the roles in it


@dataclass(frozen=True, slots=True, kw_only=True)
class PodGroup:
    """Pods of one shape.

    Example: ``PodGroup(name="gpu", pods=2, cpus=32, gpus=8, memory_gb=200)``
    """

    name: str
    pods: int
    cpus: int
    gpus: int
    memory_gb: int


def pod_groups(plan: Plan, shape: NodeShape) -> list[PodGroup]:
    """A group ``gpu`` for the roles that use GPUs and a group ``cpu`` for the others.

    Each has the fewest pods that the plan fits into, and pods no larger than it needs (12 GPUs on machines of 8 become
    2 pods of 6). Raises PlanError when one bundle is larger than a machine.
    """
    groups = []
    for name, roles in {
        "gpu": [role for role in plan.roles if role.gpus],
        "cpu": [role for role in plan.roles if not role.gpus],
    }.items():
        if roles:
            groups.append(_group(name, plan, roles, shape))
    return groups


def _group(name: str, plan: Plan, roles: Sequence[Role], shape: NodeShape) -> PodGroup:
    share = replace(plan, roles=tuple(roles), nodes=(), blueprint=None)
    most = {"CPU": float(shape.cpus), "GPU": float(shape.gpus if name == "gpu" else 0)}
    bundles = len(share.bundles)
    counts = range(1, bundles + 1) if plan.strategy != "STRICT_PACK" else (1,)
    pods = next((pods for pods in counts if _fits(share, pods, most["CPU"], most["GPU"])), 0)
    if pods:
        gpus = _smallest(lambda value: _fits(share, pods, most["CPU"], value), int(most["GPU"]))
        cpus = _smallest(lambda value: _fits(share, pods, value, gpus), shape.cpus)
        memory = shape.memory_gb or _memory_gb(share.check([{"CPU": float(cpus), "GPU": float(gpus)}] * pods))
        return PodGroup(name=name, pods=pods, cpus=max(1, cpus), gpus=gpus, memory_gb=memory)
    raise PlanError(
        f"no number of machines with {shape.cpus} CPU and {shape.gpus} GPU holds the {name} roles "
        f"({', '.join(f'{role.actors} x {role.name}: {role.bundle}' for role in roles)}, {plan.strategy}); "
        "fix: --node-cpus and --node-gpus of larger machines, or smaller bundles"
    )


def _fits(plan: Plan, pods: int, cpus: float, gpus: float) -> bool:
    try:
        plan.check([{"CPU": float(cpus), "GPU": float(gpus)}] * pods)
    except PlanError:
        return False
    return True


def _smallest(fits: Callable[[int], bool], most: int) -> int:
    """The smallest whole number up to `most` that still fits (which `most` does)."""
    return next((value for value in range(most + 1) if fits(value)), most)


def _memory_gb(plan: Plan) -> int:
    """Host memory of the fullest pod: a process an actor, and the models of the roles that live on the CPU."""
    owners = [role for role in plan.roles for _ in range(role.actors)]
    need = [0.0] * (max(plan.nodes) + 1)
    for role, node in zip(owners, plan.nodes, strict=True):
        need[node] += PROCESS_GB + role.memory_gb  # a GPU role's weights pass through host memory when they are loaded
    return math.ceil(max(need) * SPARE)
