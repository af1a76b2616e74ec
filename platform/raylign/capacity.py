"""Whether the roles of a plan fit the memory of the devices they share, and what would make them fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from raylign.config.schema import ClusterConfig
from raylign.errors import PlanError
from raylign.models.memory import GB

if TYPE_CHECKING:
    from raylign.plan import Plan, Role

FRAGMENTS = 1.08  # what PyTorch's allocator reserves for each byte in use
CONTEXT_GB = 0.6  # a CUDA context with its libraries, of each process
USABLE = 0.97  # of a device
# Of Ray's accelerator types, as the driver reports it, in GiB.
TYPES_GB = {"V100": 16, "T4": 15, "L4": 22, "A10G": 22, "L40S": 44, "A100-40G": 39, "A100-80G": 79, "H100": 79}
TYPES_GB |= {"H20": 95, "H200": 140, "B200": 178, "B300": 267, "GB200": 185, "GB300": 277, "RTX-PRO-6000": 95}


def need_gb(role: Role, device_gb: float) -> float:
    """GiB that one actor takes of each device it is on."""
    return role.share * device_gb if role.share else role.memory_gb * FRAGMENTS + CONTEXT_GB


def check_memory(plan: Plan, devices: Mapping[int, tuple[tuple[int, int], ...]], device_gb: float) -> None:
    """Raises PlanError naming each kind of device whose roles are too large together.

    devices: of each bundle, (node, device) of what it was placed on.
    """
    owners = [role for role in plan.roles for _ in range(role.actors)]
    on: dict[tuple[int, int], list[Role]] = {}
    for bundle, places in sorted(devices.items()):
        for place in places:
            on.setdefault(place, []).append(owners[bundle])
    lines = [_engine_line(role, device_gb) for role in plan.roles if role.gpus and role.share]
    for roles in on.values():
        total = sum(need_gb(role, device_gb) for role in roles)
        if total > USABLE * device_gb:
            shares = " + ".join(f"{role.name} {need_gb(role, device_gb):.1f}" for role in roles)
            fixes = "; ".join(dict.fromkeys(_smaller(role) for role in roles if role.smaller))
            lines.append(f"  {shares} = {total:.1f} GB on a GPU of {device_gb:g} GB; fix: {fixes}")
    lines = list(dict.fromkeys(line for line in lines if line))
    if lines:
        raise PlanError("the plan does not fit the memory of its GPUs.\n" + "\n".join(lines))


def _engine_line(role: Role, device_gb: float) -> str:
    """What is wrong with an engine inside its own share; empty when nothing is."""
    share = role.share * device_gb
    if role.least_gb <= share:
        return ""
    return (
        f"  {role.name} needs {role.least_gb:.1f} GB for weights, workspace and one full context; its share is "
        f"{share:.1f} GB of {device_gb:g}; fix: a larger {_key(role)}.gpu_memory, or {role.smaller}"
    )


def _smaller(role: Role) -> str:
    return f"a smaller {_key(role)}.gpu_memory" if role.share else role.smaller


def _key(role: Role) -> str:
    return role.setting.rpartition(".")[0]


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
