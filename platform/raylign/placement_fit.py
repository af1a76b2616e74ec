"""Which bundle of a plan goes to which node and device, as Ray's strategies place them, and what finds no room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from raylign.plan import Plan

Resources = Mapping[str, float]  # of one node: {"CPU": 8, "GPU": 1}


class Fit(NamedTuple):
    """Placement of the bundles of a plan: bundle number -> node, and -> the (node, device) pairs it takes."""

    nodes: dict[int, int]
    devices: dict[int, tuple[tuple[int, int], ...]]
    left_out: list[int]  # bundles that found no place


def fit(plan: Plan, nodes: Sequence[Resources]) -> Fit:
    """First fit, largest bundles first."""
    bundles = plan.bundles
    cpus = [node.get("CPU", 0.0) for node in nodes]
    gpus = [[1.0] * int(node.get("GPU", 0)) for node in nodes]
    order = sorted(range(len(bundles)), key=lambda i: (-bundles[i].get("GPU", 0.0), -bundles[i]["CPU"], i))
    placed = Fit({}, {}, [])
    for index in order:
        bundle = bundles[index]
        for node in _candidates(plan.strategy, set(placed.nodes.values()), len(nodes)):
            if cpus[node] + 1e-9 < bundle["CPU"]:
                continue
            taken = _take(gpus[node], bundle.get("GPU", 0.0))
            if taken is not None:
                cpus[node] -= bundle["CPU"]
                placed.nodes[index] = node
                placed.devices[index] = tuple((node, device) for device in taken)
                break
        else:
            placed.left_out.append(index)
    return placed


def _candidates(strategy: str, used: set[int], nodes: int) -> list[int]:
    if strategy == "STRICT_PACK" and used:
        return list(used)
    free = [node for node in range(nodes) if node not in used]
    if strategy == "STRICT_SPREAD":
        return free
    return [*free, *used] if strategy == "SPREAD" else [*sorted(used), *free]


def _take(devices: list[float], gpus: float) -> list[int] | None:
    """Take a share of one device, or whole devices: their numbers, None when there is no room."""
    whole, share = (int(gpus), 0.0) if gpus >= 1 else (0, gpus)
    room = [i for i, left in enumerate(devices) if left + 1e-9 >= (1.0 if whole else share)]
    if len(room) < max(whole, 1 if share else 0):
        return None
    for i in room[:whole]:
        devices[i] = 0.0
    if share:
        fullest = min(room, key=lambda i: devices[i])
        devices[fullest] -= share
        return [fullest]
    return room[:whole]


def shortage(plan: Plan, nodes: Sequence[Resources], left_out: Sequence[int]) -> str:
    """What is missing, and the setting of each role that found no place."""
    owners = [role for role in plan.roles for _ in range(role.actors)]
    rows = []
    for role in plan.roles:
        short = sum(owners[index] is role for index in left_out)
        if short:
            rows.append(f"  {short} of {role.actors} {role.name} actors ({_bundle(role.bundle)} each): {role.setting}")
    supply = ", ".join(_bundle(node) for node in nodes) or "no node"
    demand = {"CPU": plan.cpus, "GPU": plan.gpus}
    short_of = {kind: max(0.0, demand[kind] - sum(node.get(kind, 0.0) for node in nodes)) for kind in demand}
    lack = _bundle(short_of) if any(short_of.values()) else "nothing in sum, but no node has room for a bundle"
    return (
        f"the plan does not fit the cluster.\n"
        f"  demand:  {_bundle(demand)} in {len(plan.bundles)} bundles, {plan.strategy}\n"
        f"  supply:  {supply}\n"
        f"  missing: {lack}\n"
        f"without a place, and the setting that makes each smaller:\n" + "\n".join(rows)
    )


def _bundle(bundle: Resources) -> str:
    shown = [f"{round(bundle[name], 3):g} {name}" for name in ("CPU", "GPU") if bundle.get(name)]
    return " + ".join(shown) or "nothing"
