"""How the rewards are distributed under the policy that training starts from, measured once and kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import SampledSettings, SamplingConfig
from raylign.contracts import Asked, Stage, StageResult
from raylign.data.identity import identity_of
from raylign.data.prompts import Split
from raylign.errors import Problem, RewardError
from raylign.loop.reward_metrics import most_common_reason, reward_metrics
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.evaluate import check_sampling
from raylign.recipes.stages.group_sampler import group_sampler
from raylign.recipes.stages.training import Training
from raylign.records import Absent, Group, Missing, Value
from raylign.run_folder import write_atomically

STATISTICS = "statistics"
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


class Calibrate(Stage):
    """Sample the model that the stage starts from, and write what its rewards are. Leaves ``statistics``, a JSON file::

        {"model": ..., "prompts": 512, "samples": 8,
         "rewards": {name: {"count": 4090, "missing": 6, "absent": 0, "mean": 0.3, "std": 0.4,
                            "quantiles": {"0.5": 0.25, ...}, "domains": {domain: {the same}}}}}

    `count` is of the values that were measured, and every number is of these; `std` is that of the whole population
    (divided by count), `domains` where the prompts have several.
    """

    @dataclass
    class Config(SampledSettings):
        """How much is sampled."""

        split: Split = Split.train
        prompts: int = 512  # of the split, 0: all
        samples: int = 8  # of a prompt
        batch_prompts: int = 64  # sampled at a time; a checkpoint follows
        sampling: SamplingConfig | None = None  # null: the run's

        def __post_init__(self) -> None:
            check_sampling(self.samples, False, self.sampling)
            if self.batch_prompts < 1 or self.prompts < 0:
                name, least = ("batch_prompts", 1) if self.batch_prompts < 1 else ("prompts", 0)
                raise ValueError(f"{name} is {getattr(self, name)}, set it to {least} or more")

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Nothing learns here."""
        return frozenset({"rollout", "rewards"})

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The statistics."""
        return (STATISTICS,)

    @classmethod
    def asks(cls, config: Config) -> Asked:
        """Each prompt so often."""
        max_tokens = config.sampling.max_tokens if config.sampling else 0
        held_out = config.split is Split.holdout and not config.data
        asked = {"held_out": held_out, "trained": not held_out}
        return Asked(prompts=config.prompts, samples=config.samples, max_tokens=max_tokens, **asked)

    @classmethod
    def logs(cls, key: str, config: Config, run: Run) -> tuple[str, ...]:
        """Each reward as it was measured."""
        return (*(f"{name}/mean" for name in run.weights(key.removeprefix("stages."))), "*")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """There must be rewards to measure, and prompts."""
        findings, settings = Findings(key), run.config
        asked = settings.rewards if config.weights is None else config.weights
        findings.expect(bool(asked), "weights", "{}", "there is no reward to measure", "add rewards.NAME.fn")
        if not config.data and config.split is Split.holdout:
            findings += settings.data.unasked()
        return findings

    async def run(self, context: RunContext) -> StageResult:
        """Sample and measure, from the newest checkpoint if there is one.

        Raises RewardError when too much of a batch is missing, and where a reward was never measured.
        """
        config = self.config
        prompts = (await context.read_prompts()).first(Split.train if config.data else config.split, config.prompts)
        batches = [prompts[i : i + config.batch_prompts] for i in range(0, len(prompts), config.batch_prompts)]
        measured = Measured()
        identity = identity_of(prompt.id for prompt in prompts)
        training = await asyncio.to_thread(Training, context, self.name, len(batches), identity, every=1)
        await training.resume(measured)
        if training.start < len(batches):
            context.phase(self.name, training.start, "start")
            sampler = await group_sampler(context, config.sampling)
        async for step in training.steps(measured):
            context.phase(self.name, step, "measure")
            groups = await sampler.groups(batches[step], config.samples, greedy=False)
            measured.add(groups)
            context.record(self.name, step + 1, reward_metrics(groups), groups)
        rewards = measured.statistics(list(context.weights))
        content = {
            "model": context.model_name,
            "prompts": len(prompts),
            "samples": config.samples,
            "rewards": rewards,
        }
        path = context.folder.stage(self.name) / f"{STATISTICS}.json"
        write_atomically(path, orjson.dumps(content, option=orjson.OPT_INDENT_2))
        metrics = {f"{name}/{kind}": float(of[kind]) for name, of in rewards.items() for kind in ("mean", "std")}
        return StageResult(steps=len(batches), metrics=metrics, artifacts={STATISTICS: str(path)})


class Measured:
    """The values of every reward by the domain of their prompts, and what is missing; carried by checkpoints."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = {}  # reward -> domain -> values
        self._lost: dict[str, dict[str, list[int]]] = {}  # reward -> domain -> [missing, absent]
        self._why: dict[str, str] = {}  # reward -> the commonest reason of a batch in which one was missing

    def add(self, groups: Sequence[Group]) -> None:
        """Count the rewards of some groups. A sample that failed has none, and counts for none."""
        for group in groups:
            for trajectory in group.trajectories:
                for name, reward in trajectory.rewards.items():
                    self._add(name, group, reward)

    def _add(self, name: str, group: Group, reward: Value | Missing | Absent) -> None:
        domain = group.prompt.domain
        lost = self._lost.setdefault(name, {}).setdefault(domain, [0, 0])
        values = self._values.setdefault(name, {}).setdefault(domain, [])
        if isinstance(reward, Value):
            values.append(float(reward.score))
        elif isinstance(reward, Missing):
            lost[0] += 1
            self._why.setdefault(name, most_common_reason([group]))
        else:
            lost[1] += 1

    def statistics(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Of the rewards of these names. Raises RewardError for one that was never measured."""
        result: dict[str, dict[str, Any]] = {}
        for name in names:
            by_domain, lost = self._values.get(name, {}), self._lost.get(name, {})
            whole = [value for values in by_domain.values() for value in values]
            if not whole:
                why = self._why.get(name, "it applies to none of the samples")
                raise RewardError(f"reward {name} was never measured ({why}); fix: remove the cause, or leave it out")
            result[name] = statistics_of(whole, np.sum(list(lost.values()), axis=0).tolist())
            if len(by_domain) > 1:
                result[name]["domains"] = {
                    domain: statistics_of(values, lost[domain]) for domain, values in sorted(by_domain.items())
                }
        return result

    def state_dict(self) -> dict[str, Any]:
        """See `Trained.state_dict`."""
        return {"values": self._values, "lost": self._lost, "why": self._why}

    async def save(self, folder: Path) -> None:
        """Everything is in `state_dict`."""

    async def restore(self, folder: Path, state: Mapping[str, Any]) -> None:
        """See `Trained.restore`."""
        self._values, self._lost, self._why = state["values"], state["lost"], state["why"]


def statistics_of(values: Sequence[float], lost: Sequence[int]) -> dict[str, Any]:
    """See `Calibrate`. lost: how many were missing, and how many absent. Without a value there is only the count."""
    counted: dict[str, Any] = {"count": len(values), "missing": lost[0], "absent": lost[1]}
    if not values:
        return counted
    array = np.asarray(values, np.float64)
    quantiles = {f"{share:g}": float(np.quantile(array, share)) for share in QUANTILES}
    return counted | {"mean": float(array.mean()), "std": float(array.std()), "quantiles": quantiles}
