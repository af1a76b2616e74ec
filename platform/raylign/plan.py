"""What would run where: roles, bundles, batch arithmetic and memory, worked out before any actor starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from raylign.capacity import check_memory
from raylign.config.resolve import ResolvedStage, Run
from raylign.config.schema import Config, JudgeConfig, ModelConfig, RolloutConfig
from raylign.errors import PlanError
from raylign.models.facts import ModelFacts, model_facts
from raylign.models.memory import GB, engine_sizes, learner_sizes, scorer_sizes, smaller
from raylign.telemetry.table import table

Resources = Mapping[str, float]  # of one node: {"CPU": 8, "GPU": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Actors of one kind; each gets a bundle of its own.

    Example: ``Role(name="learner", actors=4, cpus=4, gpus=1, memory_gb=31.2, memory="weights 14.2, optimizer 14.2")``
    """

    name: str
    actors: int
    cpus: float  # of each actor
    gpus: float
    memory_gb: float = 0.0  # estimate of each actor, on the GPU where it has one
    memory: str = ""
    setting: str = ""  # the key that makes it fewer
    smaller: str = ""  # settings that make one of them smaller
    share: float = 0.0  # of its GPU, that an engine takes whatever it needs
    least_gb: float = 0.0  # without which an engine cannot start
    context_gb: float = 0.0  # of that, keys and values of one full context
    kv_bytes: int = 0  # for keys and values, where an engine shares its device; 0: it measures what is free

    @property
    def bundle(self) -> dict[str, float]:
        """Resources of one actor, as Ray wants them."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Arithmetic of one step of a reinforcement-learning stage."""

    stage: str
    steps: int
    prompts: int
    samples: int
    max_tokens: int  # if every sample ran to its limit
    updates: int
    samples_per_update: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All roles of a run in the order of their bundles."""

    roles: tuple[Role, ...]
    batches: tuple[Batch, ...] = ()
    strategy: str = "PACK"
    model: str = ""
    nodes: tuple[int, ...] = field(default=())  # node of each bundle, known after `check`

    @property
    def bundles(self) -> list[dict[str, float]]:
        """One per actor, roles in order."""
        return [role.bundle for role in self.roles for _ in range(role.actors)]

    @property
    def cpus(self) -> float:
        """CPUs of all actors."""
        return sum(role.actors * role.cpus for role in self.roles)

    @property
    def gpus(self) -> float:
        """GPUs of all actors."""
        return sum(role.actors * role.gpus for role in self.roles)

    def role(self, name: str) -> Role:
        """A role by name. Raises KeyError."""
        return {role.name: role for role in self.roles}[name]

    def bundle_index(self, name: str, actor: int) -> int:
        """Index of the bundle of one actor. Raises KeyError, IndexError."""
        first = 0
        for role in self.roles:
            if role.name == name:
                if not 0 <= actor < role.actors:
                    raise IndexError(f"role {name} has {role.actors} actors, no number {actor}")
                return first + actor
            first += role.actors
        raise KeyError(name)

    @property
    def shared(self) -> bool:
        """Whether roles share devices: then they start one after the other."""
        return any(0 < role.gpus < 1 for role in self.roles)

    def check(self, nodes: Sequence[Resources], device_gb: float = 0.0) -> Plan:
        """The plan with a node for each bundle. device_gb: GiB of one GPU, 0 when unknown, which checks no memory.

        Raises PlanError naming what does not fit.
        """
        placed, left_out = _fit(self, nodes)
        if left_out:
            raise PlanError(_shortage(self, nodes, left_out))
        roles = self.roles
        if device_gb:
            check_memory(self, {index: places for index, (_, places) in placed.items()}, device_gb)
            roles = tuple(replace(role, kv_bytes=_kv_bytes(role, device_gb)) for role in roles)
        return replace(self, roles=roles, nodes=tuple(placed[index][0] for index in range(len(placed))))

    def render(self) -> str:
        """The plan as tables of plain text."""
        first, rows = 0, []
        for role in self.roles:
            where = sorted(set(self.nodes[first : first + role.actors]))
            first += role.actors
            fit = _ranges(where) if where else "?"
            memory = f"{role.memory_gb:.2f}" if role.memory_gb else "-"
            rows.append([role.name, role.actors, role.cpus, role.gpus, fit, memory, role.memory])
        rows.append(["total", len(self.bundles), round(self.cpus, 3), round(self.gpus, 3), "", "", self.strategy])
        headers = ["role", "actors", "CPUs each", "GPUs each", "node", "GB each", "of which"]
        text = f"model: {self.model}\n\nroles, one placement group\n{table(headers, rows)}"
        if self.batches:
            headers = ["stage", "steps", "prompts", "samples", "tokens at most", "updates", "samples/update"]
            lines = [
                [b.stage, b.steps, b.prompts, b.samples, b.max_tokens, b.updates, b.samples_per_update]
                for b in self.batches
            ]
            text += f"\n\nevery step\n{table(headers, lines)}"
        return text


def make_plan(run: Run) -> Plan:
    """The plan of a checked run. Raises PlanError."""
    config = run.config
    try:
        facts = model_facts(config.model)
    except ValueError as cause:
        fix = "name a folder, or a Hub id, that can be read here: the plan is made from the model's size"
        raise PlanError(f"model.path = {config.model.path}: {cause}; fix: {fix}") from cause
    wanted = frozenset[str]().union(*(stage.roles for stage in run.stages))
    streams = run.streams()
    roles: list[Role] = []
    if "learner" in wanted:
        roles.append(_trainer("learner", config.learner.ranks, config, facts))
    if "value" in streams:
        roles.append(_trainer("critic", config.critic.ranks, config, facts))
    roles += [_scorer(name, config, facts) for name, scorer in config.scorers.items() if scorer.stream in streams]
    if "rollout" in wanted:
        roles.append(_rollout(config, facts))
        if config.environment.fn and config.environment.workers:
            worlds = config.environment
            roles.append(
                Role(
                    name="environment", actors=worlds.workers, cpus=worlds.cpus, gpus=0.0, setting="environment.workers"
                )
            )
    if {"rollout", "rewards"} & wanted:
        roles += [_judge(name, config, facts) for name in config.judges]
    if "rewards" in wanted:
        for name, reward in config.rewards.items():
            key = f"rewards.{name}"
            roles.append(
                Role(
                    name=f"reward/{name}",
                    actors=reward.workers,
                    cpus=reward.cpus,
                    gpus=reward.gpus,
                    setting=f"{key}.workers",
                )
            )
    size = _count(facts.parameters)
    return Plan(
        roles=tuple(roles),
        batches=tuple(_batch(stage, config) for stage in run.stages if stage.batch),
        strategy=config.cluster.strategy,
        model=f"{config.model.path or 'built from its shape'}, {facts.name}, {size} parameters, {config.model.dtype}",
    )


def _batch(stage: ResolvedStage, config: Config) -> Batch:
    shape = stage.batch
    assert shape is not None
    samples = shape.prompts_per_step * shape.group_size
    return Batch(
        stage=stage.name,
        steps=shape.steps,
        prompts=shape.prompts_per_step,
        samples=samples,
        max_tokens=samples * (config.data.max_prompt_tokens + config.rollout.sampling.max_tokens),
        updates=shape.minibatches * shape.epochs,
        samples_per_update=samples // shape.minibatches,
    )


def _trainer(name: str, ranks: int, config: Config, facts: ModelFacts) -> Role:
    learner = config.learner
    sizes = learner_sizes(learner, ranks, config.model.dtype, facts, head=name != "critic")
    return Role(
        name=name,
        actors=ranks,
        cpus=learner.cpus,
        gpus=learner.gpus,
        memory_gb=sum(sizes.values()) / GB,
        memory=_parts(sizes),
        setting=f"{name}.ranks",
        smaller=", ".join(smaller(learner)),
    )


def _scorer(name: str, config: Config, policy: ModelFacts) -> Role:
    scorer = config.scorers[name]
    own = scorer.path and not scorer.path.startswith("@")
    sizes = scorer_sizes(config, model_facts(ModelConfig(path=scorer.path)) if own else policy)
    return Role(
        name=f"scorer/{name}",
        actors=1,
        cpus=scorer.cpus,
        gpus=scorer.gpus,
        memory_gb=sum(sizes.values()) / GB,
        memory=_parts(sizes),
        setting=f"scorers.{name}.gpus",
        smaller=f"scorers.{name}.gpus=1",
    )


def _judge(name: str, config: Config, policy: ModelFacts) -> Role:
    judge = config.judges[name]
    if judge.endpoint:
        return Role(
            name=f"judge/{name}", actors=judge.workers, cpus=judge.cpus, gpus=judge.gpus,
            memory=f"asks {judge.endpoint}", setting=f"judges.{name}.workers",
        )  # fmt: skip
    own = judge.path and not judge.path.startswith("@")
    facts = model_facts(ModelConfig(path=judge.path)) if own else policy
    return _engine(
        f"judge/{name}", f"judges.{name}", judge, facts, judge.dtype or config.model.dtype, context=judge.max_context
    )


def _rollout(config: Config, facts: ModelFacts) -> Role:
    return _engine("rollout", "rollout", config.rollout, facts, config.model.dtype, context=config.model.max_context)


def _engine(
    name: str, key: str, engine: RolloutConfig | JudgeConfig, facts: ModelFacts, dtype: str, *, context: int
) -> Role:
    """An engine takes its share of a GPU whatever it needs; on a CPU its weights and its cache."""
    context = min(context, facts.context) if facts.context else context
    sizes, besides = engine_sizes(engine, facts, dtype, context)
    least = sum(sizes.values()) + besides
    kept = max(1.0, context * facts.kv_bytes(4 if dtype == "float32" else 2) / engine.tensor_parallel)
    if engine.gpus:
        note = f", at least {least / GB:.2f} with a full context; the engine takes {engine.gpu_memory:.0%} of the GPU"
    else:
        sizes["KV cache"] = engine.kv_cache_gb * GB
        note = f" ({int(sizes['KV cache'] // kept):,} full contexts)"
    fewer = f"{key}.tensor_parallel={2 * engine.tensor_parallel} {key}.gpus={2 * engine.tensor_parallel}"
    return Role(
        name=name,
        actors=engine.workers,
        cpus=engine.cpus,
        gpus=engine.gpus,
        memory_gb=sum(sizes.values()) / GB,
        memory=_parts(sizes) + note,
        setting=f"{key}.workers",
        share=engine.gpu_memory if engine.gpus else 0.0,
        least_gb=least / GB,
        context_gb=kept / GB,
        smaller=fewer,
    )


def _kv_bytes(role: Role, device_gb: float) -> int:
    """What an engine that shares its GPU may keep besides its weights and workspace."""
    if not role.share or role.gpus >= 1:
        return 0
    return int((role.share * device_gb - role.least_gb + role.context_gb) * GB)


def _fit(
    plan: Plan, nodes: Sequence[Resources]
) -> tuple[dict[int, tuple[int, tuple[tuple[int, int], ...]]], list[int]]:
    """First fit, largest bundles first: node and (node, device) of each bundle, and the bundles that found none."""
    bundles = plan.bundles
    cpus = [node.get("CPU", 0.0) for node in nodes]
    devices = [[1.0] * int(node.get("GPU", 0)) for node in nodes]
    order = sorted(range(len(bundles)), key=lambda i: (-bundles[i].get("GPU", 0.0), -bundles[i]["CPU"], i))
    placed: dict[int, tuple[int, tuple[tuple[int, int], ...]]] = {}
    left_out: list[int] = []
    for index in order:
        bundle = bundles[index]
        for node in _candidates(plan.strategy, {node for node, _ in placed.values()}, len(nodes)):
            if cpus[node] + 1e-9 < bundle["CPU"]:
                continue
            taken = _take(devices[node], bundle.get("GPU", 0.0))
            if taken is not None:
                cpus[node] -= bundle["CPU"]
                placed[index] = node, tuple((node, device) for device in taken)
                break
        else:
            left_out.append(index)
    return placed, left_out


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


def _shortage(plan: Plan, nodes: Sequence[Resources], left_out: Sequence[int]) -> str:
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


def _parts(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {size / GB:.2f}" for name, size in sizes.items())


def _count(number: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def _ranges(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
