"""The stage that makes a whole set of chains with a language model, before a policy is trained on them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from raylign.config.schema import Node, SampledSettings, node
from raylign.contracts import ROWS, RolloutTask, Stage, StageResult, StrategySpec
from raylign.errors import DataError
from raylign.models.facts import model_facts
from raylign.recipes.composition_rl.compose.chain import Chain
from raylign.recipes.composition_rl.compose.llm import least_tokens
from raylign.recipes.composition_rl.compose.made import MadeChains
from raylign.recipes.composition_rl.compose.surrogate import Selection
from raylign.recipes.composition_rl.rollout import ComposeRollout
from raylign.recipes.composition_rl.seeds import SeedPrompts, as_data_error
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.training import Training

OUTPUT = "composed.jsonl"
BATCH = 1024  # chains in flight: a step, so that `run.save_every` counts them


class ComposeSet(Stage):
    """Compose a whole surrogate set with the run's model as the composer, and write it as JSONL for `source.path`.

    Its prompts are the seeds.
    """

    @dataclass
    class Config(Selection, SampledSettings):
        """The set to make."""

        depth: int = 2
        strategy: Node = node(ComposeRollout, "raylign.recipes.composition_rl.ComposeRollout")

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.depth < 2:
                raise ValueError(f"depth={self.depth}: a chain has 2 problems or more")

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Rollout workers only."""
        return frozenset({"rollout"})

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The composed set."""
        return (ROWS,)

    async def run(self, context: RunContext) -> StageResult:
        """Compose every chain, from the newest checkpoint if there is one.

        Raises DataError before the first one where the model's context is too short for the questions; later when too
        many samples fail (`rollout.max_missing`), or no chain is made.
        """
        config, seeds = self.config, SeedPrompts(context.prompts.train, context.template)
        with as_data_error(f"stages.{self.name}"):
            first, last = config.seeds(seeds.chains.values(), context.cfg.seed)
            chains = config.chains(first, last, config.depth, context.cfg.seed)
        _refuse_short_context(context, seeds, [*[first] * (config.depth - 1), last])
        starts, made = range(0, len(chains), BATCH), MadeChains()
        training = await asyncio.to_thread(Training, context, self.name, len(starts), seeds.identity)
        await training.resume(made)
        rollouts, strategy = await context.rollouts(), await context.strategy()
        async for step in training.steps(made):
            batch = [chains.chain(number) for number in range(starts[step], min(starts[step] + BATCH, len(chains)))]
            async for finished in rollouts.stream([_task(context, seeds, chain, strategy) for chain in batch]):
                for item in finished:
                    made.add(item.trajectory.payload, item.error)
            context.record(self.name, step + 1, made.counts.shares())
            self._refuse(made, len(chains), made.errors.total() > context.cfg.rollout.max_missing * len(chains))
        self._refuse(made, len(chains), not made.chains)
        path = context.folder.stage(self.name) / OUTPUT
        await asyncio.to_thread(made.write, path)
        return StageResult(steps=len(starts), metrics=made.counts.shares(), artifacts={ROWS: str(path)})

    def _refuse(self, made: MadeChains, wanted: int, bad: bool) -> None:
        """Before a checkpoint is written: the same command then asks for the batch again."""
        if bad:
            raise DataError(
                f"stages.{self.name} composed {len(made.chains)} of {wanted} chains, {made.errors.total()} failed: "
                f"{made.common()}; fix: remove the cause, or take a stronger model.path, other seeds (data.path), or "
                "SymbolicComposer"
            )


def _refuse_short_context(context: RunContext, seeds: SeedPrompts, slots: Sequence[Sequence[Chain]]) -> None:
    """slots: the seeds of each. Raises DataError where even the shortest leave no room for a reply."""
    template, model, reply = context.template, context.cfg.model, context.cfg.rollout.sampling.max_tokens
    ends = [[end(slot, key=lambda seed: len(seeds.prompts[seed.id].token_ids)) for slot in slots] for end in (min, max)]
    sizes = [least_tokens(c, lambda text: len(template.prompt_ids([{"role": "user", "content": text}]))) for c in ends]
    enough, positions = sizes[1] + reply, model_facts(model).context
    if sizes[0] + reply > model.max_context:
        larger = f"a model.path that has them (this one: {positions})" if model.path else f"model.tiny.context={enough}"
        raise DataError(
            f"model.max_context = {model.max_context}: the composer's questions take {sizes[0]} to {sizes[1]} tokens, "
            f"and a reply up to {reply} (rollout.sampling.max_tokens); fix: model.max_context={enough}"
            f"{f' and {larger}' if 0 < positions < enough else ''}"
        )


def _task(
    context: RunContext, seeds: SeedPrompts, chain: Sequence[Chain], strategy: StrategySpec | None
) -> RolloutTask:
    name, records = "+".join(seed.id for seed in chain), [seed.record() for seed in chain]
    prompt = replace(seeds.prompts[chain[-1].id], id=name, meta={"chain": records})
    return RolloutTask(prompt=prompt, n=1, sampling=context.sampling, run_seed=context.cfg.seed, strategy=strategy)
