"""Plan of a run: roles, bundles, batch arithmetic and memory, worked out before any actor starts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from raylign.audit.cost import audit_cost
from raylign.capacity import Load, engine_shortfalls, loads, overfull, refuse_small_cache
from raylign.config.resolve import ResolvedStage, Run
from raylign.config.schema import Config, EngineConfig, ModelConfig, PoolConfig
from raylign.contracts import RewardFunction
from raylign.errors import PlanError
from raylign.models.facts import CAUSAL, ModelFacts, model_facts
from raylign.models.memory import GB, Estimate, engine_estimate, frozen_model_estimate, learner_estimate
from raylign.models.scoring import SCORING
from raylign.placement_fit import Resources, fit, shortage
from raylign.remedies import advice

MACHINE_GPUS = 8  # of a machine that is only described


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Actors of one kind; each gets a bundle of its own.

    Example: ``Role(name="learner", actors=4, cpus=4, gpus=1, memory_gb=31.2, memory="weights 14.2, optimizer 14.2")``
    """

    name: str
    actors: int
    cpus: float  # of each actor
    gpus: float
    memory_gb: float = 0.0  # GiB, estimate of each actor, on the GPU where it has one
    memory: str = ""
    setting: str = ""  # the key that makes it fewer
    share: float = 0.0  # of its GPU, that an engine takes whatever it needs
    least_gb: float = 0.0  # without which an engine cannot start
    context_gb: float = 0.0  # of that, keys and values of one full context
    kv_bytes: int = 0  # for keys and values, where an engine shares its device; 0: it measures what is free

    @property
    def bundle(self) -> dict[str, float]:
        """Resources of one actor, as Ray wants them."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class StepArithmetic:
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
    batches: tuple[StepArithmetic, ...] = ()
    strategy: str = "PACK"
    model: str = ""
    nodes: tuple[int, ...] = ()  # node of each bundle, known after `check`
    loads: tuple[Load, ...] = ()  # of the GPUs, known after `check` where their memory is
    blueprint: Blueprint | None = field(default=None, repr=False, compare=False)  # to look for what would fit

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

        Raises PlanError naming what does not fit, and what would make it fit.
        """
        placed = fit(self, nodes)
        if placed.left_out:
            raise PlanError(shortage(self, nodes, placed.left_out) + advice(self, nodes, device_gb))
        if not device_gb or not self.gpus:
            return replace(self, nodes=tuple(placed.nodes[index] for index in range(len(placed.nodes))))
        on = loads(self, placed.devices, device_gb)
        if wrong := [*engine_shortfalls(self, device_gb), *overfull(on)]:
            lines = "\n".join(f"  {line}" for line in wrong)
            raise PlanError(f"the plan does not fit the memory of its GPUs.\n{lines}" + advice(self, nodes, device_gb))
        roles = tuple(replace(role, kv_bytes=_kv_bytes(role, device_gb)) for role in self.roles)
        return replace(self, roles=roles, nodes=tuple(placed.nodes[i] for i in range(len(placed.nodes))), loads=on)

    def machines(self) -> list[Resources]:
        """The fewest GPUs that hold the plan, in machines of 8, with as many CPUs as it takes."""
        widest = max((math.ceil(role.gpus) for role in self.roles), default=0)
        most, cpus = max(MACHINE_GPUS, widest), max(1.0, self.cpus)
        shapes = [[{"CPU": cpus, "GPU": float(gpus)}] for gpus in range(widest, most)]
        shapes += [[{"CPU": cpus, "GPU": float(most)}] * count for count in range(1, len(self.bundles) + 1)]
        least = self.gpus - 1e-6
        for nodes in shapes:
            if sum(node["GPU"] for node in nodes) >= least and not fit(self, nodes).left_out:
                return list(nodes)
        return list(shapes[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """Inputs of the plans of one run: its configuration, its model, and what its stages and streams ask for."""

    config: Config
    facts: ModelFacts
    run: Run
    streams: frozenset[str]

    def plan(self, config: Config) -> Plan:
        """The plan of this run with other sizes: `config` has the same stages and parts."""
        return Plan(
            roles=tuple(_roles(replace(self, config=config))),
            batches=tuple(_batch(stage, config) for stage in self.run.stages if stage.batch),
            strategy=config.cluster.strategy,
            model=_title(config.model, self.facts),
            blueprint=self,
        )


def make_plan(run: Run) -> Plan:
    """The plan of a checked run. Raises PlanError."""
    config = run.config
    try:
        facts = model_facts(config.model)
    except ValueError as cause:
        fix = "name a folder, or a Hub id, that can be read here: the plan is made from the model's size"
        raise PlanError(f"model.path = {config.model.path}: {cause}; fix: {fix}") from cause
    blueprint = Blueprint(config=config, facts=facts, run=run, streams=run.streams())
    return blueprint.plan(config)


def _title(model: ModelConfig, facts: ModelFacts) -> str:
    return f"{model.path or 'built from its shape'}, {facts.name}, {facts.size} parameters, {model.dtype}"


def _roles(run: Blueprint) -> Iterator[Role]:
    config, facts = run.config, run.facts
    wanted = frozenset[str]().union(*(stage.roles for stage in run.run.stages))
    if "learner" in wanted:
        yield _trainer("learner", config.learner.ranks, run)
    if "value" in run.streams:
        yield _trainer("critic", config.critic.ranks, run)
    for name, frozen in config.frozen.items():
        if frozen.stream in run.streams:
            yield _frozen_model(name, run)
    if "rollout" in wanted:
        context = config.model.max_context
        yield _engine("rollout", config.rollout, facts, config.model.dtype, context=context)
        yield from _hosts(run.run, config)
    if {"rollout", "rewards"} & wanted:
        for name in config.judges:
            yield _judge(name, run)
    for name, grader in config.audit.graders.items() if run.run.audited else ():
        yield _scorer(f"audit/{name}", f"audit.graders.{name}", grader, run, audit_cost(run.run))
    if "rewards" in wanted:
        asked = frozenset[str]().union(*(run.run.asked(stage) for stage in run.run.stages))
        for name in filter(asked.__contains__, config.rewards):
            yield _scorer(f"reward/{name}", f"rewards.{name}", config.rewards[name], run)


def _hosts(run: Run, config: Config) -> Iterator[Role]:
    """Actors that host episodes: of the run's environment, and of each stage with one of its own."""
    host = config.environment
    if not host.workers:
        return
    own = [f"environment/{stage.name}" for stage in run.stages if f"{stage.key}.environment" in run.parts]
    for name in [*(["environment"] if host.fn else []), *own]:
        yield Role(name=name, actors=host.workers, cpus=host.cpus, gpus=0.0, setting="environment.workers")


def _scorer(name: str, key: str, pool: PoolConfig, run: Blueprint, told: str = "") -> Role:
    """Actors of a reward or a grader; told: what is said besides of what they hold."""
    role = Role(name=name, actors=pool.workers, cpus=pool.cpus, gpus=pool.gpus, memory=told, setting=f"{key}.workers")
    part = run.run.parts.get(f"{key}.fn")
    path = part.cls.model_of(part.config) if part and issubclass(part.cls, RewardFunction) else ""
    if not path:
        return role
    sized = _sized(role, frozen_model_estimate(run.config, _facts_at(path, run, (SCORING,)), head=False))
    return replace(sized, memory="; ".join(filter(None, (sized.memory, told))))


def _trainer(name: str, ranks: int, run: Blueprint) -> Role:
    learner, facts = run.config.learner, run.facts
    if name == "learner":  # one after the other, it holds the models of all stages
        starts = [
            _facts_at(stage.config.start, run, (*CAUSAL, SCORING)) for stage in run.run.stages if name in stage.roles
        ]
        facts = max([facts, *starts], key=lambda facts: facts.parameters)
    lora = 0 if name == "critic" else _rank(run.run)
    size = learner_estimate(learner, ranks, run.config.model.dtype, facts, head=name != "critic", lora=lora)
    return _sized(Role(name=name, actors=ranks, cpus=learner.cpus, gpus=learner.gpus, setting=f"{name}.ranks"), size)


def _rank(run: Run) -> int:
    """The highest of the adapters that the learner trains; 0 where a stage of it trains all weights."""
    ranks = [stage.lora.rank for stage in run.stages if stage.lora is not None]
    return max(ranks, default=0) if all(ranks) else 0


def _frozen_model(name: str, run: Blueprint) -> Role:
    frozen = run.config.frozen[name]
    size = frozen_model_estimate(run.config, _facts_at(frozen.path, run))
    setting = f"frozen.{name}.gpus"
    return _sized(Role(name=f"frozen/{name}", actors=1, cpus=frozen.cpus, gpus=frozen.gpus, setting=setting), size)


def _judge(name: str, run: Blueprint) -> Role:
    judge, dtype = run.config.judges[name], run.config.model.dtype
    if judge.endpoint:
        return Role(
            name=f"judge/{name}", actors=judge.workers, cpus=judge.cpus, gpus=judge.gpus,
            memory=f"asks {judge.endpoint}", setting=f"judges.{name}.workers",
        )  # fmt: skip
    return _engine(f"judges.{name}", judge, _facts_at(judge.path, run), judge.dtype or dtype, context=judge.max_context)


def _engine(key: str, engine: EngineConfig, facts: ModelFacts, dtype: str, *, context: int) -> Role:
    """An engine takes its share of a GPU whatever it needs; on a CPU its weights and its cache."""
    role = Role(
        name=key.replace("judges.", "judge/"),
        actors=engine.workers,
        cpus=engine.cpus,
        gpus=engine.gpus,
        setting=f"{key}.workers",
        share=engine.gpu_memory if engine.gpus else 0.0,
    )
    sized = _sized(role, engine_estimate(engine, facts, dtype, min(context, facts.context or context)))
    refuse_small_cache(key, engine, context, sized.context_gb)
    return sized


def _sized(role: Role, size: Estimate) -> Role:
    least, context = size.least / GB, size.context / GB
    return replace(role, memory_gb=size.gb, memory=size.text, least_gb=least, context_gb=context)


def _facts_at(path: str, run: Blueprint, ends: tuple[str, ...] = CAUSAL) -> ModelFacts:
    """Of a model beside the policy: its own folder's, or the policy's where a stage makes it."""
    return model_facts(ModelConfig(path=path), ends) if path and not path.startswith("@") else run.facts


def _batch(stage: ResolvedStage, config: Config) -> StepArithmetic:
    shape = stage.batch
    assert shape is not None
    samples = shape.prompts_per_step * shape.group_size
    return StepArithmetic(
        stage=stage.name,
        steps=shape.steps,
        prompts=shape.prompts_per_step,
        samples=samples,
        max_tokens=samples * (config.data.max_prompt_tokens + config.rollout.sampling.max_tokens),
        updates=shape.minibatches * shape.epochs,
        samples_per_update=samples // shape.minibatches,
    )


def _kv_bytes(role: Role, device_gb: float) -> int:
    """What an engine that shares its GPU may keep besides its weights and workspace."""
    if not role.share or role.gpus >= 1:
        return 0
    return int((role.share * device_gb - role.least_gb + role.context_gb) * GB)
