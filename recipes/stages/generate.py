"""A data set made of samples: prompts are answered, the answers scored, and what is good enough is written down.

    prompts --batch--> engines, or a judge --samples--> rewards --scores--> keep --rows--> rows.jsonl
                                                                 none? otherwise: drop, or the gold target

Every reader takes the rows (`raylign.data.written`): a later stage trains on ``data: '@NAME'``, supervised, by
reinforcement, or where two samples make a row on pairs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from raylign.config.resolve import Run
from raylign.config.schema import Node, SamplingConfig, node
from raylign.contracts import Stage, StageResult, StageSettings
from raylign.data.identity import identity_of
from raylign.data.prompts import Split
from raylign.data.row_file import RowFile
from raylign.data.written import json_line
from raylign.errors import DataError, Problem
from raylign.evaluate import Evaluator
from raylign.loop.reward_metrics import reward_metrics
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.evaluate import check_sampling
from raylign.recipes.stages.keep import Keep, Kept
from raylign.recipes.stages.made_rows import PROMPT, TARGET, RowMaker, usable
from raylign.recipes.stages.tally import Tally
from raylign.recipes.stages.training import Training
from raylign.records import Group, Prompt, derive_seed

ROWS = "rows.jsonl"


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
    class Config(StageSettings):
        """What is asked of whom, and what is kept of it."""

        split: Split = Split.train
        prompts: int = 0  # of the split, 0: all
        samples: int = 1  # of a prompt
        greedy: bool = False
        sampling: SamplingConfig | None = None  # null: the run's
        batch_prompts: int = 64  # sampled at a time
        by: str = ""  # a name under `judges`, which answers in place of the policy; empty: the run's engines
        keep: Node = node(Keep, "raylign.recipes.stages.keep.All")
        otherwise: Otherwise = Otherwise.drop
        truncated: bool = False  # keep samples that ran into a length limit, too: as targets they teach to break off
        ask: str = ""  # a prompt's column: its text is the prompt of the row, in place of the prompt that was sampled

        def __post_init__(self) -> None:
            check_sampling(self.samples, self.greedy, self.sampling)
            for name in ("batch_prompts", "prompts"):
                if getattr(self, name) < (name == "batch_prompts"):
                    raise ValueError(f"{name} is {getattr(self, name)}, set it to a positive number")

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Nothing learns here; judges come with the rewards."""
        return frozenset({"rewards"} if config.by else {"rollout", "rewards"})

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """There must be prompts, and a judge of that name."""
        problems, settings = [], run.config
        if config.split is Split.holdout and not (settings.data.holdout or settings.data.eval_path):
            why, fix = f"{key} asks held-out prompts and there are none", f"set {key}.split=train, or data.holdout=128"
            problems.append(Problem(key="data.holdout", value="0", why=why, fix=fix))
        judge = settings.judges.get(config.by)
        if config.by and judge is None:
            known = ", ".join(settings.judges) or "none"
            fix = f"set judges.{config.by}.path=MODEL, or name one of: {known}"
            problems.append(Problem(key=f"{key}.by", value=config.by, why="is no judge that this run serves", fix=fix))
        sampling = config.sampling or settings.rollout.sampling
        if judge is not None and judge.endpoint and sampling.top_k:
            where = f"{key}.sampling" if config.sampling else "rollout.sampling"
            why, fix = "cannot be asked of an endpoint, whose protocol has no word for it", f"set {where}.top_k=0"
            problems.append(Problem(key=f"{where}.top_k", value=str(sampling.top_k), why=why, fix=fix))
        return problems

    async def run(self, context: RunContext) -> StageResult:
        """Ask, score, keep, write, from the newest checkpoint if there is one. Raises DataError when nothing is left."""
        config = self.config
        prompts = (await context.read_prompts()).first(config.split, config.prompts)
        batches = [prompts[i : i + config.batch_prompts] for i in range(0, len(prompts), config.batch_prompts)]
        file = RowFile(context.folder.stage(self.name) / ROWS)
        identity = identity_of(prompt.id for prompt in prompts)
        training = await asyncio.to_thread(Training, context, self.name, len(batches), identity, every=1)
        await training.resume(file)
        tally = Tally(**training.kept.get("tally", {}))
        context.phase(self.name, training.start, "start")
        evaluator = await self._evaluator(context)
        keep: Keep = context.run.parts[f"stages.{self.name}.keep"].build()
        maker = self._maker(context, evaluator)
        async for step in training.steps(file):
            context.phase(self.name, step, "generate")
            groups = await evaluator.sample(batches[step], config.samples, config.greedy, training=True)
            lines, counts = self._lines(groups, keep, maker)
            await file.append(lines)
            tally.add(counts)
            training.kept["tally"] = tally.state()
            context.record(self.name, step + 1, self._metrics(groups) | counts.metrics(), groups)
        if not tally.rows:
            raise DataError(
                f"stages.{self.name} keeps nothing of {tally.prompts} prompts ({tally.samples} samples, {tally.cut} of "
                f"them cut off by a length limit); fix: loosen stages.{self.name}.keep, give it more samples, or set "
                f"stages.{self.name}.otherwise=target"
            )
        return StageResult(steps=len(batches), metrics=tally.metrics(), artifacts={"rows": str(file.path)})

    def _lines(self, groups: Sequence[Group], keep: Keep, maker: RowMaker) -> tuple[list[bytes], Tally]:
        """The rows of some groups as lines, and their counts."""
        lines, counts = list[bytes](), Tally()
        for group in groups:
            choices, origin = keep.keep(group, usable(group, maker.scored, self.config.truncated)), PROMPT
            if not choices and self.config.otherwise is Otherwise.target and _has_target(group.prompt):
                choices, origin = [Kept(None)], TARGET
            rows = [row for kept in choices for row in maker.rows(group, kept, origin)]
            lines += [json_line(row, group.prompt.place or group.prompt.id) for row in rows]
            counts.add(self._count(group, choices, len(rows), origin is TARGET, maker.scored))
        return lines, counts

    def _count(self, group: Group, kept: Sequence[Kept], rows: int, fallback: bool, scored: bool) -> Tally:
        counts = Tally(prompts=1, samples=len(group.trajectories), rows=rows, fallback=fallback, dropped=not rows)
        counts.cut = len(usable(group, scored, True)) - len(usable(group, scored, self.config.truncated))
        counts.keep(group, kept, scored)
        return counts

    def _metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Of all samples; a served model's have no token ids, so nothing is said of their lengths."""
        metrics = reward_metrics(groups)
        return {name: value for name, value in metrics.items() if not (self.config.by and name.startswith("length/"))}
