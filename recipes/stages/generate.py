"""A data set made of samples: prompts are answered, the answers scored, and what is good enough is written down.

    prompts --batch--> engines, or a teacher --samples--> rewards --scores--> keep --rows--> rows.jsonl
                                                                 none? otherwise: drop, or the gold target

Every reader takes the rows (`raylign.data.rows`): a later stage learns from ``data: '@NAME'``, supervised, by
reinforcement, or where two samples make a row on pairs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from raylign.actors.judge.chat import ChatModel
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import Node, SampledSettings, SamplingConfig, node
from raylign.contracts import ROWS, Asked, Stage, StageResult
from raylign.data.identity import identity_of
from raylign.data.prompts import Split
from raylign.data.row_file import RowFile
from raylign.errors import DataError, Problem
from raylign.loop.reward_metrics import reward_metrics
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.evaluate import check_sampling
from raylign.recipes.stages.group_sampler import group_sampler
from raylign.recipes.stages.keep import Keep, Kept
from raylign.recipes.stages.made_rows import RowWriter, has_target, usable
from raylign.recipes.stages.tally import Tally
from raylign.recipes.stages.teachers import teacher_of, teacher_problems
from raylign.recipes.stages.training import Training
from raylign.records import Group


class Otherwise(Enum):
    """What becomes of a prompt of which nothing is kept."""

    drop = "drop"
    target = "target"  # it is written with its gold target, where it has one


class Generate(Stage):
    """Write a set of rows with the model that the stage starts from, or with a served model. Leaves ``rows``.

    A checkpoint follows every batch of prompts, so that a killed run goes on with the next one and ends with the same
    file, byte for byte.
    """

    @dataclass
    class Config(SampledSettings):
        """What is asked of whom, and what is kept of it. The rows ask the prompts as they are without the view."""

        split: Split = Split.train
        prompts: int = 0  # of the split, 0: all
        samples: int = 1  # of a prompt
        greedy: bool = False
        sampling: SamplingConfig | None = None  # null: the run's
        batch_prompts: int = 64  # sampled at a time
        by: str = ""  # a name under `judges`, which answers in place of the policy; empty: the run's engines
        teacher: Node = node(ChatModel)  # or a chat model that no judge serves, such as a script
        keep: Node = node(Keep, "raylign.recipes.stages.keep.All")
        otherwise: Otherwise = Otherwise.drop
        truncated: bool = False  # keep samples that ran into a length limit, too: as targets they teach to break off
        ask: str = ""  # a prompt's column: its text is the prompt of the row, in place of the prompt that was sampled

        def __post_init__(self) -> None:
            check_sampling(self.samples, self.greedy, self.sampling)
            if self.batch_prompts < 1 or self.prompts < 0:
                name, least = ("batch_prompts", 1) if self.batch_prompts < 1 else ("prompts", 0)
                raise ValueError(f"{name} is {getattr(self, name)}, set it to {least} or more")

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Nothing learns here; judges come with the rewards."""
        return frozenset({"rewards"} if config.by or config.teacher else {"rollout", "rewards"})

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The set."""
        return (ROWS,)

    @classmethod
    def asks(cls, config: Config) -> Asked:
        """Each prompt so often."""
        max_tokens = config.sampling.max_tokens if config.sampling else 0
        held_out = config.split is Split.holdout and not config.data
        asked = {"held_out": held_out, "trained": not held_out}
        return Asked(prompts=config.prompts, samples=config.samples, max_tokens=max_tokens, **asked)

    @classmethod
    def logs(cls, key: str, config: Config, run: Run) -> tuple[str, ...]:
        """How much is kept, and of what worth."""
        return ("generate/score", "generate/kept", "generate/*", "*")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """There must be prompts, and a judge of that name that can be asked so."""
        findings, settings = Findings(key), run.config
        if not config.data and config.split is Split.holdout:
            findings += settings.data.unasked()
        findings += teacher_problems(key, config.by, config.teacher, run)
        if not config.by:
            return findings
        judge, known = settings.judges.get(config.by), ", ".join(settings.judges) or "none"
        fix = f"set judges.{config.by}.path=MODEL, or name one of: {known}"
        findings.expect(judge is not None, "by", config.by, "is no judge that this run serves", fix)
        sampling, where = config.sampling or settings.rollout.sampling, "sampling" if config.sampling else ""
        if judge is not None and judge.endpoint and sampling.top_k:
            where = f"{key}.sampling.top_k" if config.sampling else "rollout.sampling.top_k"
            why = "has no word in the protocol of an endpoint"
            findings.append(Problem(key=where, value=str(sampling.top_k), why=why, fix=f"set {where}=0"))
        return findings

    @property
    def _split(self) -> Split:
        """Rows of its own are all asked."""
        return Split.train if self.config.data else self.config.split

    async def run(self, context: RunContext) -> StageResult:
        """Ask, score, keep, write, from the newest checkpoint if there is one.

        Raises DataError when nothing is left, RewardError when too much of a batch is missing.
        """
        config = self.config
        prompts = (await context.read_prompts()).first(self._split, config.prompts)
        batches = [prompts[i : i + config.batch_prompts] for i in range(0, len(prompts), config.batch_prompts)]
        file = RowFile(context.folder.stage(self.name) / f"{ROWS}.jsonl")
        identity = identity_of(prompt.id for prompt in prompts)
        training = await asyncio.to_thread(Training, context, self.name, len(batches), identity, every=1)
        await training.resume(file)
        tally = Tally(**training.kept.get("tally", {}))
        if training.start < len(batches):
            context.phase(self.name, training.start, "start")
            sampler = await group_sampler(context, config.sampling, config.by, config.teacher)
            keep: Keep = context.run.parts[f"stages.{self.name}.keep"].build()
            maker = self._maker(context, sampler.scored)
        async for step in training.steps(file):
            context.phase(self.name, step, "generate")
            groups = await sampler.groups(batches[step], config.samples, config.greedy)
            counts = await self._write(groups, keep, maker, file)
            tally.add(counts)
            training.kept["tally"] = tally.state()
            context.record(self.name, step + 1, self._metrics(groups) | counts.metrics(), groups)
        if not tally.rows:
            raise DataError(
                f"stages.{self.name} keeps nothing of {tally}; fix: loosen stages.{self.name}.keep, give it more "
                f"samples, or set stages.{self.name}.otherwise=target"
            )
        return StageResult(steps=len(batches), metrics=tally.metrics(), artifacts={ROWS: str(file.path)})

    def _maker(self, context: RunContext, scored: bool) -> RowWriter:
        asked = {prompt.id: prompt for prompt in context.unviewed.first(self._split, 0)}
        model = f"judges.{self.config.by}" if self.config.by else context.model_name
        if self.config.teacher:
            model = teacher_of(self.name, self.config.teacher).name
        return RowWriter(stage=self.name, model=model, scored=scored, asked=asked, ask=self.config.ask)

    async def _write(self, groups: Sequence[Group], keep: Keep, maker: RowWriter, file: RowFile) -> Tally:
        """Write the rows of some groups, and count."""
        rows, total = [], Tally()
        for group in groups:
            within = usable(group, maker.scored, self.config.truncated)
            kept = keep.keep(group, within)
            fallback = not kept and self.config.otherwise is Otherwise.target and has_target(group.prompt)
            made = [row for choice in kept or [Kept(None)] * fallback for row in maker.rows(group, choice)]
            rows += made
            counts = Tally(
                prompts=1,
                samples=len(group.trajectories),
                rows=len(made),
                fallback=int(fallback),
                dropped=int(not made),
                cut=len(usable(group, maker.scored, True)) - len(within),
            )
            counts.keep(group, kept, maker.scored)
            total.add(counts)
        await file.append(rows)
        return total

    def _metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Of all samples; a served model's have no token ids, so nothing is said of their lengths."""
        metrics = reward_metrics(groups)
        unknown = bool(self.config.by or self.config.teacher)
        return {name: value for name, value in metrics.items() if not (unknown and name.startswith("length/"))}
