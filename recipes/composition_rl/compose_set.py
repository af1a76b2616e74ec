"""The stage that makes a whole set of chains with a language model, before a policy is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from raylign.config.build import named
from raylign.config.resolve import Run
from raylign.contracts import ROWS, RolloutTask, Stage, StageResult, StageSettings
from raylign.errors import DataError, Problem
from raylign.recipes.composition_rl.compose.chain import Chain
from raylign.recipes.composition_rl.compose.counts import CompositionCounts
from raylign.recipes.composition_rl.compose.rows import result_of, write_rows
from raylign.recipes.composition_rl.compose.surrogate import Selection
from raylign.recipes.composition_rl.rollout import ComposeRollout
from raylign.recipes.composition_rl.seeds import SeedPrompts, as_data_error
from raylign.recipes.stages.context import RunContext

BATCH = 1024  # chains in flight


class ComposeSet(Stage):
    """Compose a whole surrogate set with the run's model as the composer, and write it as JSONL for `source.path`.

    The run's strategy must be `ComposeRollout`; its prompts are the seeds.
    """

    @dataclass
    class Config(Selection, StageSettings):
        """The set to make."""

        output: str = "composed.jsonl"  # relative to the stage's folder
        depth: int = 2

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Rollout workers only."""
        return frozenset({"rollout"})

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The composed set."""
        return (ROWS,)

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The rollout strategy must be one that composes."""
        strategy = run.parts.get("rollout.strategy")
        if strategy is None or issubclass(strategy.cls, ComposeRollout):
            return []
        why, fix = f"does not compose, as {key} asks", f"set rollout.strategy={{_target_: {named(ComposeRollout)}}}"
        return [Problem(key="rollout.strategy._target_", value=named(strategy.cls), why=why, fix=fix)]

    async def run(self, context: RunContext) -> StageResult:
        """Compose every chain. Raises DataError when none is made, or too many samples fail (`rollout.max_missing`)."""
        config, seeds = self.config, SeedPrompts(context.prompts.train, context.template)
        with as_data_error(f"stages.{self.name}"):
            slots = config.seeds(seeds.chains.values(), context.cfg.seed)
            chains = config.chains(*slots, config.depth, context.cfg.seed)
        rollouts = await context.rollouts()
        starts = range(0, len(chains), BATCH)
        context.begin(self.name, len(starts), 0)
        made: list[Chain] = []
        counts = CompositionCounts()
        errors: Counter[str] = Counter()  # of samples that failed, in words
        for step, start in enumerate(starts, 1):
            batch = [chains.chain(number) for number in range(start, min(start + BATCH, len(chains)))]
            async for finished in rollouts.stream([_task(context, seeds, chain) for chain in batch]):
                errors.update(item.error for item in finished if item.error)
                results = [result_of(item.trajectory.payload) for item in finished]
                made += [result for result in results if isinstance(result, Chain)]
                counts.count(*results)
            context.record(self.name, step, counts.shares())
        if not made or errors.total() > context.cfg.rollout.max_missing * len(chains):
            common = ", ".join(f"{reason} {count}" for reason, count in (errors or counts.rejected).most_common(3))
            raise DataError(
                f"stages.{self.name} composed {len(made)} of {len(chains)} chains, {errors.total()} failed: {common}"
                "; fix: remove the cause, or take a stronger model.path, other seeds (data.path), or SymbolicComposer"
            )
        path = context.folder.stage(self.name) / config.output
        write_rows(path, made)
        return StageResult(steps=len(starts), metrics=counts.shares(), artifacts={ROWS: str(path)})


def _task(context: RunContext, seeds: SeedPrompts, chain: Sequence[Chain]) -> RolloutTask:
    name, records = "+".join(seed.id for seed in chain), [seed.record() for seed in chain]
    prompt = replace(seeds.prompts[chain[-1].id], id=name, meta={"chain": records})
    return RolloutTask(prompt=prompt, n=1, sampling=context.sampling, run_seed=context.cfg.seed)
