"""Rollouts and rewards without a learner: a prompt source learns from what it observes, or rows are collected.

source --prompts--> rollouts --trajectories--> rewards --groups--> shaper --scores--> source.observe
                                                                      rows.jsonl <-----+
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylign.audit.auditor import Auditor
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import Node, SampledSettings, SamplingConfig, node
from raylign.contracts import ROWS, Asked, PromptSource, RewardShaper, Stage, StageResult, StatefulPart
from raylign.data.row_file import RowFile
from raylign.errors import Problem
from raylign.loop.group_sampler import GroupSampler
from raylign.loop.part_state import restore_parts, save_part, save_parts
from raylign.loop.reward_metrics import reward_metrics
from raylign.loop.scoring import logged, scored
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.group_sampler import group_sampler
from raylign.recipes.stages.made_rows import RowWriter
from raylign.recipes.stages.training import Training
from raylign.records import Group

SOURCE = "source"


class Collect(Stage):
    """`steps` times: ask prompts of the source, roll out, reward, let the source observe.

    Leaves ``rows``, one for every trajectory that was drawn, and ``source``, the folder of the source's state
    (`raylign.loop.part_state.restore_part` reads it).
    """

    audited = True

    @dataclass
    class Config(SampledSettings):
        """Samples of a step = prompts_per_step * group_size."""

        steps: int = 1
        prompts_per_step: int = 64
        group_size: int = 1
        greedy: bool = False
        sampling: SamplingConfig | None = None  # null: the run's
        source: Node = node(PromptSource)  # empty: the run's
        shaper: Node = node(RewardShaper)  # empty: the run's

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """No model learns here."""
        return frozenset({"rollout", "rewards"})

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """What was sampled, and what the source has come to."""
        return (ROWS, SOURCE)

    @classmethod
    def asks(cls, config: Config) -> Asked:
        """All steps together."""
        max_tokens = config.sampling.max_tokens if config.sampling else 0
        prompts = config.steps * config.prompts_per_step
        return Asked(prompts=prompts, samples=config.group_size, max_tokens=max_tokens, held_out=False)

    @classmethod
    def logs(cls, key: str, config: Config, run: Run) -> tuple[str, ...]:
        """The rewards, and what the source says of them."""
        return ("reward/mean", "source/*", "*")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """Numbers that no step can have."""
        findings = Findings(key)
        findings.positive(steps=config.steps, prompts_per_step=config.prompts_per_step, group_size=config.group_size)
        if config.greedy and config.group_size > 1:
            why = "samples of a greedy policy are all the same"
            findings.expect(False, "group_size", config.group_size, why, f"set {key}.greedy=false, or one sample")
        return findings

    async def run(self, context: RunContext) -> StageResult:
        """All steps from the newest checkpoint on."""
        config, folder = self.config, context.folder.stage(self.name)
        prompts = (await context.read_prompts()).train
        source: PromptSource = context.run.part("source", self.name).build(
            prompts=prompts, seed=context.cfg.seed, tokenizer=context.template
        )
        auditor, file = await context.auditor(), RowFile(folder / f"{ROWS}.jsonl")
        collecting = _Collecting(source, context.shaper(self.name), file, auditor)
        training = await asyncio.to_thread(Training, context, self.name, config.steps)
        await training.resume(collecting)
        if training.start < config.steps:
            context.phase(self.name, training.start, "start")
            sampler = await group_sampler(context, config.sampling)
            maker = RowWriter(stage=self.name, model=context.model_name, scored=sampler.scored)
        async for step in training.steps(collecting):
            context.phase(self.name, step, "rollout")
            groups, metrics = await self._step(collecting, sampler, maker)
            audited = await auditor.training(step + 1, groups) if auditor else None
            metrics |= audited.metrics if audited else {}
            training.kept["metrics"] = metrics
            context.record(self.name, step + 1, metrics, groups, audited=audited)
        await asyncio.to_thread(_leave, source, folder / SOURCE)
        artifacts = {ROWS: str(collecting.file.path), SOURCE: str(folder / SOURCE)}
        return StageResult(steps=config.steps, metrics=training.kept["metrics"], artifacts=artifacts)

    async def _step(
        self, collecting: _Collecting, sampler: GroupSampler, maker: RowWriter
    ) -> tuple[list[Group], dict[str, float]]:
        """The groups of one step and what is logged of it."""
        config, source, shaper = self.config, collecting.source, collecting.shaper
        drawn = await sampler.groups(source.next(config.prompts_per_step), config.group_size, config.greedy)
        groups = logged(shaper, scored(shaper, drawn))
        source.observe(groups)
        rows = [
            maker.trajectory_row(group, index)
            for group in groups
            for index, trajectory in enumerate(group.trajectories)
            if trajectory.calls
        ]
        await collecting.file.append(rows)
        metrics = reward_metrics(groups) | {f"source/{name}": value for name, value in source.metrics().items()}
        return groups, metrics | {"collect/rows": float(collecting.file.count)}


class _Collecting:
    """What a checkpoint carries: source, shaper, what an audit has seen, and how far the file of rows is good."""

    def __init__(self, source: PromptSource, shaper: RewardShaper, file: RowFile, auditor: Auditor | None) -> None:
        self.source, self.shaper, self.file, self._auditor = source, shaper, file, auditor
        self._parts: dict[str, StatefulPart] = {SOURCE: source, "shaper": shaper}

    def state_dict(self) -> dict[str, Any]:
        """See `Trained.state_dict`."""
        audit = {} if self._auditor is None else {"audit": self._auditor.state_dict()}
        return {**self.file.state_dict(), **audit, **{name: part.state_dict() for name, part in self._parts.items()}}

    async def save(self, folder: Path) -> None:
        """See `Trained.save`."""
        await asyncio.to_thread(save_parts, folder, self._parts)
        await self.file.save(folder)

    async def restore(self, folder: Path, state: Mapping[str, Any]) -> None:
        """See `Trained.restore`."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        if self._auditor is not None and "audit" in state:
            self._auditor.load_state_dict(state["audit"])
        await asyncio.to_thread(restore_parts, folder, self._parts)
        await self.file.restore(folder, state)


def _leave(source: PromptSource, folder: Path) -> None:
    """The source's state as an artifact, whole or not at all."""
    staging = folder.with_name(f".writing-{folder.name}")
    for old in (staging, folder):  # of a run that was killed
        shutil.rmtree(old, ignore_errors=True)
    save_part(staging, source)
    os.rename(staging, folder)
