"""Whether the roles of a plan fit the memory of the devices they share. All sizes are GiB, as drivers report them.

The margin is a rule: of what PyTorch allocates 8 % more is counted for fragments, of each process 0.6 GiB for its CUDA
context, and of each device 3 % stays free (the driver, ECC, and that "80 GB" on a box is 79.6 GiB in the driver). An
engine takes its `gpu_memory` share exactly. So a GPU whose bare estimates fill up to 89 % is accepted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raylign.config.schema import ClusterConfig, EngineConfig
from raylign.errors import PlanError
from raylign.models.memory import GB

if TYPE_CHECKING:
    from raylign.plan import Plan, Role

FRAGMENTS = 1.08  # what PyTorch's allocator reserves for each byte in use
CONTEXT_GB = 0.6  # a CUDA context with its libraries, of each process
USABLE = 0.97  # of a device
UNKNOWN = (
    "GPU memory is not checked: nothing here says how much a GPU has; fix: cluster.gpu_memory_gb=80 (GiB of one GPU)"
)
# Of Ray's accelerator types, as the driver reports it, in GiB.
TYPES_GB = {"V100": 16, "T4": 15, "L4": 22, "A10G": 22, "L40S": 44, "A100-40G": 39, "A100-80G": 79, "H100": 79}
TYPES_GB |= {"H20": 95, "H200": 140, "B200": 178, "B300": 267, "GB200": 185, "GB300": 277, "RTX-PRO-6000": 95}


@dataclass(frozen=True, slots=True)
class Load:
    """What the roles on GPUs of one kind take, in GiB, and what such a GPU has for them.

    Example: ``Load(roles=(("learner", 43.1), ("frozen/reference", 33.6)), gpus=1, usable=77.6, device=80.0)``
    """

    roles: tuple[tuple[str, float], ...]
    gpus: int
    usable: float
    device: float

    @property
    def total(self) -> float:
        """GiB of all its roles."""
        return sum(size for _, size in self.roles)

    def __str__(self) -> str:
        return " + ".join(f"{name} {size:.1f}" for name, size in self.roles)


def need_gb(role: Role, device_gb: float) -> float:
    """GiB that one actor takes of each device it is on."""
    return role.share * device_gb if role.share else role.memory_gb * FRAGMENTS + CONTEXT_GB


def loads(plan: Plan, devices: Mapping[int, tuple[tuple[int, int], ...]], device_gb: float) -> tuple[Load, ...]:
    """The GPUs of a plan by what is on them, the fullest first. devices: (node, device) that each bundle takes."""
    owners = [role for role in plan.roles for _ in range(role.actors)]
    on: dict[tuple[int, int], list[Role]] = {}
    for bundle, places in sorted(devices.items()):
        for place in places:
            on.setdefault(place, []).append(owners[bundle])
    kinds = Counter(tuple((role.name, need_gb(role, device_gb)) for role in roles) for roles in on.values())
    listed = [Load(roles, gpus, USABLE * device_gb, device_gb) for roles, gpus in kinds.items()]
    return tuple(sorted(listed, key=lambda load: -load.total))


def overfull(on: Iterable[Load]) -> list[str]:
    """A line for each kind of GPU whose roles are too large together."""
    return [
        f"{load} = {load.total:.1f} GiB on a GPU of {load.device:g} GiB, of which {load.usable:.1f} can be planned with"
        for load in on
        if load.total > load.usable
    ]


def engine_shortfalls(plan: Plan, device_gb: float) -> list[str]:
    """A line for each engine that its own share of a GPU does not hold."""
    return [
        f"{role.name} needs {role.least_gb:.1f} GiB for weights, workspace and one full context; its share is "
        f"{role.share * device_gb:.1f} GiB, {role.share:.0%} of a GPU of {device_gb:g} GiB"
        for role in plan.roles
        if role.gpus and role.share and role.least_gb > role.share * device_gb
    ]


def device_memory(config: ClusterConfig, nodes: Iterable[Mapping[str, Any]] = ()) -> float:
    """GiB of one GPU: as set, as this machine's driver says, or by the accelerator types of a cluster's nodes.

    nodes: resources of live nodes. The smallest where they differ; 0 where nobody knows.
    """
    if config.gpu_memory_gb:
        return config.gpu_memory_gb
    nodes = list(nodes)
    if not nodes:
        return _local_gb()
    kinds = [key.removeprefix("accelerator_type:") for node in nodes if node.get("GPU") for key in node]
    known = [TYPES_GB[kind] for kind in kinds if kind in TYPES_GB]
    return float(min(known, default=0))


def _local_gb() -> float:
    import ray._private.thirdparty.pynvml as nvml

    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return 0.0  # no driver on this machine
    try:
        count = nvml.nvmlDeviceGetCount()
        totals = [nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(i)).total for i in range(count)]
        return min(totals, default=0) / GB
    finally:
        nvml.nvmlShutdown()


def refuse_small_cache(key: str, engine: EngineConfig, context: int, context_gb: float) -> None:
    """Raises PlanError where an engine on a CPU has no room for keys and values of one sequence of `context` tokens."""
    if engine.gpus or engine.kv_cache_gb >= context_gb:
        return
    enough = math.ceil(10 * context_gb) / 10
    raise PlanError(
        f"{key}.kv_cache_gb = {engine.kv_cache_gb:g}: holds not one sequence of {context} tokens, whose keys and "
        f"values take {context_gb:.2g} GiB; fix: set {key}.kv_cache_gb={enough:g}, or a shorter context"
    )
