"""Settings that make a plan fit, found by planning with them: what is advised has been tried.

A greedy search over the sizes of the roles: the first single change that is enough, else the one that helps most, and
so on; at the end every change that turned out to be needless is taken back. Changes that cost no speed come first.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raylign.capacity import loads
from raylign.config.schema import Config, Offload
from raylign.config.validate import validate
from raylign.placement_fit import Resources, fit

if TYPE_CHECKING:
    from raylign.plan import Plan, Role

Change = Mapping[str, Any]  # dotted key -> value
ROUNDS = 10
LARGER = (1, 2, 4, 8, 16, 32, 64, 128)  # times the GPUs
MACHINE = 8  # GPUs
STEP = 0.05  # of an engine's share
UNPLACED = 1e6  # an actor without a place is worse than any lack of memory


def advice(plan: Plan, nodes: Sequence[Resources], device_gb: float) -> str:
    """What would make a plan fit these nodes, or how many GPUs would; empty for a plan without a configuration.

    device_gb: GiB of one GPU, 0 when unknown.
    """
    if plan.blueprint is None:
        return ""
    cluster = plan.blueprint.config.cluster
    roomy = [{**node, "CPU": node.get("CPU", 0.0) + plan.cpus} for node in nodes]
    if cluster.address == "local" and cluster.num_cpus and not misfit(plan, roomy, device_gb):
        return f"\n  fix: cluster.num_cpus={math.ceil(plan.cpus)}"  # logical ones
    gpus = int(sum(node.get("GPU", 0.0) for node in nodes))
    if (gpus or not plan.gpus) and (settings := remedy(plan, nodes, device_gb)):
        return f"\n  fix: {written(settings)}"
    size = f" of {device_gb:g} GiB" if device_gb else ""
    cannot = f"\n  no setting makes it fit {gpus} GPU{'s' * (gpus != 1)}{size}; fix: "
    first = gpus or int(sum(node["GPU"] for node in plan.machines()))
    for count in [first * times for times in LARGER] if plan.gpus else []:
        more = _larger(nodes, count)
        if not misfit(plan, more, device_gb):
            return f"{cannot}{count} such GPUs"
        if settings := remedy(plan, more, device_gb):
            return f"{cannot}{count} such GPUs and {written(settings)}"
    return f"{cannot}a smaller model, or larger machines"


def written(change: Change) -> str:
    """The setting as a command-line override."""
    return " ".join(f"{key}={_text(value)}" for key, value in change.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value.value if isinstance(value, Offload) else value)


def remedy(plan: Plan, nodes: Sequence[Resources], device_gb: float) -> dict[str, Any]:
    """The settings that make a plan fit; empty when none were found."""
    assert plan.blueprint is not None
    blueprint, start = plan.blueprint, plan.blueprint.config
    taken: list[Change] = []
    worst = misfit(plan, nodes, device_gb)
    for _ in range(ROUNDS):
        config = changed(start, taken)
        best: tuple[float, Change] | None = None
        for change in _changes(blueprint.plan(config), config, device_gb):
            left = misfit(blueprint.plan(changed(config, [change])), nodes, device_gb)
            if best is None or left < best[0]:
                best = left, change
            if not left:
                break
        if best is None or best[0] >= worst:
            return {}
        worst = best[0]
        taken.append(best[1])
        if not worst:
            break
    if worst:
        return {}
    for change in list(taken):
        rest = [other for other in taken if other is not change]
        if not misfit(blueprint.plan(changed(start, rest)), nodes, device_gb):
            taken = rest
    settings = {key: value for change in taken for key, value in change.items()}
    run = dataclasses.replace(blueprint.run, config=changed(start, [settings]))
    return {} if validate(run, to_run=False) else settings


def misfit(plan: Plan, nodes: Sequence[Resources], device_gb: float) -> float:
    """How far a plan is from fitting: GiB that are missing, far more for an actor without a place, 0 when it fits."""
    placed = fit(plan, nodes)
    far = UNPLACED * len(placed.left_out)
    if not device_gb:
        return far
    far += sum(role.least_gb - role.share * device_gb for role in plan.roles if _starved(role, device_gb))
    far += sum(load.gpus * max(0.0, load.total - load.usable) for load in loads(plan, placed.devices, device_gb))
    return far


def changed(config: Config, changes: Sequence[Change]) -> Config:
    """A configuration with other settings."""
    for change in changes:
        for key, value in change.items():
            config = _with(config, key.split("."), value)
    return config


def _with(node: Any, path: Sequence[str], value: Any) -> Any:
    name, *rest = path
    if isinstance(node, Mapping):
        return {**node, name: _with(node[name], rest, value) if rest else value}
    return dataclasses.replace(node, **{name: _with(getattr(node, name), rest, value) if rest else value})


def _starved(role: Role, device_gb: float) -> bool:
    return bool(role.gpus and role.share) and role.least_gb > role.share * device_gb


def _changes(plan: Plan, config: Config, device_gb: float) -> Iterator[Change]:
    """Single steps from a plan, the cheapest first."""
    engines = [role for role in plan.roles if role.gpus and role.share]
    for role in engines:
        yield from _shares(role, device_gb)
    trains = any(role.name in ("learner", "critic") for role in plan.roles)
    if trains:
        yield from _learner_sizes(config)
    for role in plan.roles:
        if role.name.startswith("frozen/") and 0 < role.gpus < 1:
            yield from _paid(config, {role.setting: 1.0}, 1)
    if trains and config.learner.gpus and config.learner.offload is Offload.none and config.learner.zero_stage:
        yield {"learner.offload": Offload.cpu}
    for role in engines:
        key, engine = _key(role), max(1, math.ceil(role.gpus))
        yield {f"{key}.tensor_parallel": 2 * engine, f"{key}.gpus": 2.0 * engine}
        yield {
            f"{key}.tensor_parallel": 2 * engine,
            f"{key}.gpus": 2.0 * engine,
            f"{key}.workers": max(1, role.actors // 2),
        }
    if trains and config.learner.gpus:
        ranks = config.learner.ranks
        more = {"learner.ranks": 2 * ranks} | ({"learner.gpus": 1.0} if config.learner.gpus <= 0.5 else {})
        yield from _paid(config, more, ranks)
        yield from _paid(config, {**more, "learner.zero_stage": 3}, ranks)
    yield from _fewer(plan)


def _shares(role: Role, device_gb: float) -> Iterator[Change]:
    """Other shares of a GPU for an engine: the largest first, so that as much as fits is left for its cache."""
    if device_gb and role.share:
        for steps in range(round(0.95 / STEP), 0, -1):
            share = round(steps * STEP, 2)
            if share != role.share and share * device_gb >= role.least_gb:
                yield {f"{_key(role)}.gpu_memory": share}


def _learner_sizes(config: Config) -> Iterator[Change]:
    learner = config.learner
    if not learner.gradient_checkpointing:
        yield {"learner.gradient_checkpointing": True}
    if learner.zero_stage < 3 and learner.ranks > 1:
        yield {"learner.zero_stage": 3}
    tokens = config.data.max_prompt_tokens + config.rollout.sampling.max_tokens
    half = max(tokens, learner.micro_batch_tokens // 2)
    if half < learner.micro_batch_tokens:
        yield {"learner.micro_batch_tokens": half}


def _paid(config: Config, change: Change, gpus: int) -> Iterator[Change]:
    """A change that takes more GPUs: where some are free, and with the GPUs of rollout workers."""
    yield change
    rollout = config.rollout
    spared = math.ceil(gpus / rollout.gpus) if rollout.gpus >= 1 else rollout.workers
    if 0 < spared < rollout.workers:
        yield {**change, "rollout.workers": rollout.workers - spared}


def _fewer(plan: Plan) -> Iterator[Change]:
    """Half as many actors, for machines that are too small."""
    for role in plan.roles:
        if role.actors > 1 and role.setting:
            yield {role.setting: role.actors // 2}
    for role in plan.roles:
        if role.cpus > 1 and role.name in ("learner", "rollout"):
            yield {f"{role.name}.cpus": 1.0}


def _key(role: Role) -> str:
    return role.setting.rpartition(".")[0]


def _larger(nodes: Sequence[Resources], gpus: int) -> list[Resources]:
    """Machines like these, with so many GPUs in all."""
    cpus = max((node.get("CPU", 0.0) for node in nodes), default=1.0)
    each = max(MACHINE, *(int(node.get("GPU", 0.0)) for node in nodes)) if nodes else MACHINE
    count, rest = divmod(gpus, each)
    sizes = [each] * count + ([rest] if rest else [])
    return [{"CPU": cpus * 8, "GPU": float(size)} for size in sizes]
