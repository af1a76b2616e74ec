"""A run resolved once: the class and the typed settings of every part, carried from where it is composed.

Parts are found by their fields: one that is declared by `raylign.config.schema.node` with a contract holds such a part,
and a mapping with a ``_target_`` anywhere within a part's settings is a part of that part. Each is checked against its
contract (what it is derived from, what it is made with), and against the packages that the run lets `_target_` name.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from raylign.config.build import OWN, error, named, part_config, target_of
from raylign.config.schema import CONTRACT, Config, LoraConfig, Node, SampledSettings
from raylign.contracts import Advantage, BatchShape, Objective, Part, Stage
from raylign.errors import ConfigError, Problem

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PERMITTED = "run.allow_targets"  # packages that a `_target_` may name beside our own


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedPart:
    """A part of the configuration: its place, what was written there, its class, its typed ``Config``."""

    key: str
    node: Mapping[str, object]
    cls: type[Part]
    config: Any

    def build(self, **made_with: object) -> Any:
        """Make it, of the type that its contract promises; its config is its own."""
        return self.cls(copy.deepcopy(self.config), **made_with)


class ResolvedStage(NamedTuple):
    """A stage of the recipe."""

    key: str
    cls: type[Stage]
    config: Any

    @property
    def name(self) -> str:
        """Its key under ``stages``."""
        return self.key.removeprefix("stages.")

    @property
    def roles(self) -> frozenset[str]:
        """The actors it talks to, see `Stage.roles`."""
        return self.cls.roles(self.config)

    @property
    def leaves(self) -> tuple[str, ...]:
        """See `Stage.leaves`."""
        return self.cls.leaves(self.config)

    @property
    def lora(self) -> LoraConfig | None:
        """The adapters that it trains in place of all weights, if its rank is above 0; None where it trains nothing."""
        lora: LoraConfig | None = vars(self.config).get("lora")
        return lora

    @property
    def batch(self) -> BatchShape | None:
        """See `Stage.batch`."""
        return self.cls.batch(self.config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A configuration with its parts. `tree` is the plain mapping that ``resolved.yaml`` stores; `given` the keys that
    the command line set.
    """

    config: Config
    parts: Mapping[str, ResolvedPart] = field(default_factory=dict)
    tree: Mapping[str, object] = field(default_factory=dict)
    given: frozenset[str] = frozenset()

    @property
    def stages(self) -> list[ResolvedStage]:
        """In the order in which they run."""
        keys = [f"stages.{name}" for name in self.config.stages]
        parts = [self.parts[key] for key in keys if key in self.parts]
        return [ResolvedStage(part.key, part.cls, part.config) for part in parts if issubclass(part.cls, Stage)]

    def part(self, kind: str, stage: str = "") -> ResolvedPart:
        """The part that stage `stage` (a name) brings of a kind, or else the run's. Raises KeyError."""
        return self.parts.get(f"stages.{stage}.{kind}") or self.parts[kind]

    def advantage(self, stage: ResolvedStage) -> Advantage | None:
        """The advantage of a stage that samples groups and trains on them; None for others, and where it is wrong."""
        part = self.parts.get(f"{stage.key}.advantage") or self.parts.get("advantage")
        return part.build() if part and stage.batch else None

    def objective(self, stage: ResolvedStage) -> Objective | None:
        """The objective of a stage: its own, or where it samples groups the run's; None without, or at fault."""
        shared = self.parts.get("objective") if stage.batch else None
        part = self.parts.get(f"{stage.key}.objective") or shared
        return part.build() if part else None

    def reads_scores(self, stage: ResolvedStage) -> bool:
        """Whether a stage learns from rewards at all; one whose advantage is at fault (and told as such) counts too."""
        advantage = self.advantage(stage)
        return advantage is None or advantage.reads_scores

    def streams_of(self, stage: ResolvedStage) -> frozenset[str]:
        """Extra token streams that the advantage and the objective of a stage read."""
        return frozenset().union(*(part.needs for part in (self.advantage(stage), self.objective(stage)) if part))

    def streams(self) -> frozenset[str]:
        """Extra token streams that advantages and objectives read, e.g. ``value``, which brings a critic."""
        return frozenset().union(*(self.streams_of(stage) for stage in self.stages))

    def weighs_itself(self, stage: ResolvedStage) -> bool:
        """Whether a stage has weights of rewards of its own, and reads none of ``rewards.NAME.weight``."""
        return isinstance(stage.config, SampledSettings) and stage.config.weights is not None

    def weights(self, stage: str = "") -> dict[str, float]:
        """Weight of each reward that a stage (a name) asks; without a stage, or one of its own choice, of all."""
        part = self.parts.get(f"stages.{stage}")
        chosen = part.config.weights if part and isinstance(part.config, SampledSettings) else None
        return {name: reward.weight for name, reward in self.config.rewards.items()} if chosen is None else dict(chosen)

    @property
    def audited(self) -> list[ResolvedStage]:
        """The stages whose samples graders are asked about; none where there are no graders."""
        return [stage for stage in self.stages if stage.cls.audited] if self.config.audit.graders else []

    def asked(self, stage: ResolvedStage) -> frozenset[str]:
        """Names of the rewards that a stage asks."""
        return frozenset(self.weights(stage.name)) if "rewards" in stage.roles else frozenset()


def resolve(
    config: Config, tree: Mapping[str, object] | None = None, given: frozenset[str] = frozenset()
) -> tuple[Run, list[Problem]]:
    """All parts that can be resolved, and what is wrong with the others."""
    resolver = _Resolver(config)
    for key, node, contract in _declared(config, ""):
        resolver.add(key, node, contract)
    return Run(config=config, parts=resolver.parts, tree=tree or {}, given=given), resolver.problems


class _Resolver:
    """The parts so far, and what is wrong with those that are none."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.parts: dict[str, ResolvedPart] = {}
        self.problems: list[Problem] = []

    def add(self, key: str, node: object, contract: type[Part]) -> None:
        """A part and the parts within it, or what is wrong with it."""
        try:
            if not isinstance(node, Mapping):
                raise error(key, str(node), "is no part", f"write {key}: {{_target_: package.module.Class}}")
            if foreign := foreign_problems(f"{key}._target_", target_of(node, key), self.settings):
                raise ConfigError(foreign)
            cls, config = part_config(node, key)
        except ConfigError as refused:
            self.problems += refused.problems
            return
        if misfit := _misfit(key, cls, contract):
            self.problems.append(misfit)
            return
        self.parts[key] = ResolvedPart(key=key, node=node, cls=cls, config=config)
        for inner, value, wanted in _within(key, config):
            self.add(inner, value, wanted)


def may_name(path: str, packages: object) -> bool:
    """Whether a `_target_` may be imported. packages: `PERMITTED`, as it is written."""
    others = [str(package) for package in packages] if isinstance(packages, (list, tuple)) else []
    return path.startswith((OWN, *others))


def foreign_problems(key: str, path: str, settings: Config) -> list[Problem]:
    """What is wrong with an import path that the packages of the run do not hold."""
    if may_name(path, settings.run.allow_targets):
        return []
    fix = f"add its package to run.allow_targets, e.g. run.allow_targets=[{path.split('.')[0]}.]"
    return [Problem(key=key, value=path, why="is outside the packages that may be run", fix=fix)]


def _declared(section: DataclassInstance, prefix: str) -> Iterator[tuple[str, object, type[Part]]]:
    """(key, node, contract) of every part that the settings of a run hold."""
    for item in dataclasses.fields(section):
        key, value = f"{prefix}{item.name}", getattr(section, item.name)
        contract = item.metadata.get(CONTRACT)
        if contract is Stage:
            yield from ((f"{key}.{name}", stage, Stage) for name, stage in value.items())
        elif contract is not None:
            if value or _default(item):
                yield key, value or {}, contract
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _declared(value, f"{key}.")
        elif isinstance(value, Mapping):
            for name, entry in value.items():
                if dataclasses.is_dataclass(entry) and not isinstance(entry, type):
                    yield from _declared(entry, f"{key}.{name}.")


def _default(item: dataclasses.Field[Any]) -> object:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else None


def _within(key: str, config: DataclassInstance) -> Iterator[tuple[str, object, type[Part]]]:
    """(key, node, contract) of the outermost parts within a part's settings."""
    hints = typing.get_type_hints(type(config))
    for item in dataclasses.fields(config):
        contract, value = item.metadata.get(CONTRACT), getattr(config, item.name)
        name = f"{key}.{item.name}"
        if contract is None:
            yield from _nodes(name, value)
        elif hints[item.name] == Node:
            if value:
                yield name, value, contract
        else:
            yield from _named(name, value, contract)


def _named(key: str, value: object, contract: type[Part]) -> Iterator[tuple[str, object, type[Part]]]:
    """The parts of a field that holds several, by name or in a list; null and empty are none."""
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    yield from ((f"{key}.{name}", entry, contract) for name, entry in entries if entry)


def _nodes(key: str, value: object) -> Iterator[tuple[str, object, type[Part]]]:
    """The parts in a field that no contract is declared for, at any depth."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield key, value, Part
            return
        for name, entry in value.items():
            yield from _nodes(f"{key}.{name}", entry)
    elif isinstance(value, (list, tuple)):
        for number, entry in enumerate(value):
            yield from _nodes(f"{key}.{number}", entry)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _within(key, value)


def _misfit(key: str, cls: type[Part], contract: type[Part]) -> Problem | None:
    """Why a class cannot do the work of its place."""
    if not issubclass(cls, contract):
        why, fix = f"is not {contract.what}", f"name one, or derive the class from {named(contract)}"
    elif not issubclass(cls.Config, contract.settings):
        why = f"is {contract.what} whose Config is not derived from {contract.settings.__name__}"
        fix = f"write `class Config({contract.settings.__name__})`, from {named(contract.settings).rpartition('.')[0]}"
    elif absent := sorted(cls.__abstractmethods__):
        why, fix = f"is {contract.what} without {', '.join(absent)}", "give the class these methods"
    elif contract is Part:  # nobody declared what it is for, or what it is made with
        return None
    else:
        try:
            inspect.signature(cls).bind(None, **dict.fromkeys(contract.made_with))
            return None
        except TypeError as cause:
            wanted = ", ".join(("config", *contract.made_with))
            why = f"cannot be made as {contract.what} is, by {cls.__name__}({wanted}): {cause}"
            fix = f"give its __init__ what {named(contract)}.made_with lists"
    return Problem(key=f"{key}._target_", value=f"{cls.__module__}.{cls.__qualname__}", why=why, fix=fix)
