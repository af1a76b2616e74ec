"""Stages of the recipe: the toy's warm-up, evaluation by depth, and making a composed set with a language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from raylign.config.build import build
from raylign.config.schema import Node, SamplingConfig
from raylign.contracts import Policy, RolloutStrategy, RolloutTask, Scored, Stage, StageResult, StageSettings
from raylign.environment import Environments
from raylign.errors import DataError
from raylign.recipes.composition_rl.chains import Slots, SurrogateSet
from raylign.recipes.composition_rl.drive import Ask, compose_async
from raylign.recipes.composition_rl.llm import LlmComposer
from raylign.recipes.composition_rl.measures import step_metrics
from raylign.recipes.composition_rl.operation import spc_async
from raylign.recipes.composition_rl.pool import Pool, write_rows
from raylign.recipes.composition_rl.problem import Outcome, Problem, Rejected
from raylign.recipes.composition_rl.sandbox import Sandbox
from raylign.recipes.composition_rl.source import CompositionSource
from raylign.recipes.composition_rl.toy import solution
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.recipes.stages.evaluate import check_sampling
from raylign.recipes.stages.sft import Sft
from raylign.records import Prompt, Sample, StopReason, Trajectory, Turn, derive_seed

BATCH = 1024  # chains in flight


class WarmUp(Sft):
    """Imitate worked solutions of the toy's seeds and of chains of them: RL then starts from partly solved chains."""

    @dataclass
    class Config(Sft.Config):
        """As `sft`, and what the demonstrations are made of."""

        shares: list[float] = field(default_factory=lambda: [0.9, 0.1])  # of depth 1, 2, ...
        rows: int = 20000
        chains: int = 2000  # different chains of each depth beyond 1
        first_seeds: int = 0  # seeds that are shown before the last slot, 0: all; the fewer, the less of v1 is learned

        def __post_init__(self) -> None:
            super().__post_init__()
            if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
                raise ValueError(f"shares={self.shares} must be shares that add up to 1")

    config: Config

    def rows(self, context: RunContext) -> list[Sample]:
        """Prompts of every depth by their shares, each with its gold response as the target."""
        prompts: list[Prompt] = []
        for depth, share in enumerate(self.config.shares, 1):
            count = round(share * self.config.rows)
            if not count:
                continue
            source = source_of(context, depth, "warm-up")
            different = source.next(len(source)) if depth == 1 else self._chains(source, context)
            prompts += [different[number % len(different)] for number in range(count)]
        return demonstrations([_with_target(prompt) for prompt in prompts], context.template)

    async def _pass_rate(self, context: RunContext, learner: Any, step: int) -> dict[str, float]:
        """Greedy score on the deepest chains that are shown: what `stop_at` compares.

        How many steps a small model takes until it follows a link differs several times between seeds, and a start
        that solves every chain, or none, shows nothing of RL.
        """
        rollouts = await context.rollouts()
        await rollouts.publish(await learner.publish(step))
        source = source_of(context, len(self.config.shares), "warm-up's end")
        found = await context.evaluate(source.next(self.config.eval_prompts))
        return found.metrics

    def _chains(self, source: CompositionSource, context: RunContext) -> list[Prompt]:
        ids = [prompt.id for prompt in context.prompts.train]
        rng = np.random.default_rng(derive_seed(0, "first seeds"))
        shown = {ids[i] for i in rng.permutation(len(ids))[: self.config.first_seeds or None]}
        found = [
            prompt for prompt in source.next(len(source)) if shown.issuperset(prompt.meta["composition"]["seeds"][:-1])
        ]
        if not found:
            raise DataError(f"stages.{self.name}.first_seeds={self.config.first_seeds} leaves no chain to imitate")
        return found[: self.config.chains]


class EvaluateDepths(Stage):
    """Score the current model on chains of several depths: `depth_<k>/score`, and how often it states v1."""

    @dataclass
    class Config(StageSettings):
        """How to sample; the chains are the same in every run on the same seeds."""

        depths: list[int] = field(default_factory=lambda: [1, 2])
        prompts: int = 512  # of each depth
        samples: int = 1
        greedy: bool = True
        sampling: SamplingConfig | None = None  # null: the run's, which are those of training

        def __post_init__(self) -> None:
            check_sampling(self.samples, self.greedy, self.sampling)

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Nothing learns here."""
        return frozenset({"rollout", "rewards"})

    async def run(self, context: RunContext) -> StageResult:
        """Evaluate the model of the lineage."""
        context.begin(self.name, len(self.config.depths), 0)
        metrics: dict[str, float] = {}
        for step, depth in enumerate(self.config.depths, 1):
            source = source_of(context, depth, "evaluation")
            prompts = source.next(self.config.prompts if depth > 1 else min(self.config.prompts, len(source)))
            found = await context.evaluate(prompts, self.config.samples, self.config.greedy, self.config.sampling)
            detail = step_metrics(found.groups, source.config.reward)
            here = {f"depth_{depth}/score": found.score}
            here |= {f"depth_{depth}/{name}": detail[name] for name in ("v1_recovered",) if name in detail}
            context.record(self.name, step, here, found.groups)
            metrics |= here
        return StageResult(steps=len(self.config.depths), metrics=metrics)


class ComposeSet(Stage):
    """Compose a whole surrogate set with the run's model as the composer, and write it as JSONL for `source.path`.

    The run's strategy must be `ComposeRollout`; its prompts are the seeds.
    """

    @dataclass
    class Config(StageSettings):
        """The set to make."""

        output: str = "composed.jsonl"  # relative to the stage's folder
        depth: int = 2
        candidates: int = 20
        slots: Slots = Slots.product
        first_domain: str = ""
        last_domain: str = ""

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """Only the composer works here."""
        return frozenset({"rollout"})

    async def run(self, context: RunContext) -> StageResult:
        """Compose every chain of the set; the metrics are the yield and the share of every reason."""
        config, rollouts = self.config, await context.rollouts()
        pool = Pool(context.prompts.train, LlmComposer(LlmComposer.Config()), context.template, 0)
        chains = SurrogateSet(
            pool.of_domain(config.first_domain),
            pool.of_domain(config.last_domain),
            config.depth,
            candidates=config.candidates,
            slots=config.slots,
            seed=context.cfg.seed,
        )
        context.begin(self.name, -(-len(chains) // BATCH), 0)
        made: list[Problem] = []
        step, metrics = 0, dict[str, float]()
        reasons: Counter[str] = Counter()
        for step, start in enumerate(range(0, len(chains), BATCH), 1):
            numbers = range(start, min(start + BATCH, len(chains)))
            tasks = [_task(context, pool, chains.chain(number)) for number in numbers]
            async for finished in rollouts.stream(tasks):
                _sort(finished, made, reasons)
            asked = start + len(tasks)
            metrics = {f"composer/rejected/{name}": count / asked for name, count in sorted(reasons.items())}
            metrics |= {"composer/asked": float(asked), "composer/yield": len(made) / asked}
            context.record(self.name, step, metrics)
        if not made:
            common, count = reasons.most_common(1)[0] if reasons else ("no chain was asked for", 0)
            raise DataError(
                f"stages.{self.name} composed none of {len(chains)} chains; {count} times: {common}; fix: take a "
                "stronger model.path, other seeds (data.path), or the rules alone (SymbolicComposer)"
            )
        path = context.folder.stage(self.name) / config.output
        write_rows(Path(path), sorted(made, key=lambda problem: problem.id))
        return StageResult(steps=step, metrics=metrics, files={"set": str(path)})


class ComposeRollout(RolloutStrategy):
    """A rollout strategy in which the policy is the composer: an episode is the eleven steps of one chain.

    The prompt's ``meta["chain"]`` holds the records of its seeds; the trajectory's ``payload["chain"]`` the composed
    record, or ``payload["rejected"]`` the reason.
    """

    @dataclass
    class Config:
        """The composer's stubbornness."""

        retries: int = 2
        timeout_s: float = 5.0  # of one generated program

    def __init__(self, config: Config, environments: Environments | None = None) -> None:
        """`environments` is what every strategy gets; a composer acts in none."""
        self.config = config
        self._sandbox = Sandbox(config.timeout_s)
        self._composer = LlmComposer(LlmComposer.Config(retries=config.retries))

    async def run(self, task: RolloutTask, policy: Policy) -> AsyncIterator[Trajectory]:
        """One trajectory per draw; its turns are the composer's replies."""
        for index in task.draws:
            yield await self._draw(task, policy, index)

    async def _draw(self, task: RolloutTask, policy: Policy, index: int) -> Trajectory:
        turns: list[Turn] = []
        seed = derive_seed(task.run_seed, task.prompt.key, index, 0)

        async def complete(ask: Ask) -> str:
            messages = [{"role": "user", "content": ask.text}]
            ids = np.asarray(policy.template.prompt_ids(messages), np.int32)
            found = await policy.generate(ids, task.sampling, derive_seed(seed, len(turns)))
            turns.append(
                Turn(
                    context_ids=ids,
                    token_ids=found.token_ids,
                    logprobs=found.logprobs,
                    versions=found.versions,
                    stop=found.stop,
                    text=found.text,
                )
            )
            return found.text

        async def compose(first: Problem, second: Problem) -> Outcome:
            return await compose_async(self._composer, first, second, complete, self._sandbox)

        outcome = await spc_async([Problem.from_record(row) for row in task.prompt.meta["chain"]], compose)
        rejected = isinstance(outcome, Rejected)
        payload = {"rejected": str(outcome.reason)} if rejected else {"chain": outcome.record()}  # type: ignore[union-attr]
        return Trajectory(
            prompt_key=task.prompt.key,
            sample_index=index,
            turns=tuple(turns),
            seed=seed,
            stop=StopReason.DONE,
            payload=payload,
        )


def source_of(context: RunContext, depth: int, purpose: str) -> CompositionSource:
    """Chains of one depth over the run's seeds, by the composer of its source; the same ones in every run."""
    node: Mapping[str, Any] = context.cfg.source
    fields: Node = {name: node[name] for name in ("composer", "reward") if name in node}
    fields |= {"_target_": node["_target_"], "curriculum": {"depths": [depth]}}
    return build(
        CompositionSource,
        fields,
        "source",
        prompts=context.prompts.train,
        seed=derive_seed(0, "composition", purpose),
        tokenizer=context.template,
    )


def _with_target(prompt: Prompt) -> Prompt:
    links = prompt.meta["composition"]["links"]
    return replace(prompt, meta={**prompt.meta, "target": solution(links, str(prompt.answer))})


def _task(context: RunContext, pool: Pool, seeds: Sequence[Problem]) -> RolloutTask:
    last = pool.prompts[seeds[-1].id]
    name = "+".join(seed.id for seed in seeds)
    prompt = replace(last, id=name, meta={"chain": [seed.record() for seed in seeds]})
    return RolloutTask(prompt=prompt, n=1, sampling=context.sampling, run_seed=context.cfg.seed)


def _sort(finished: Sequence[Scored], made: list[Problem], reasons: Counter[str]) -> None:
    for item in finished:
        payload = item.trajectory.payload
        if item.error:  # no reply at all
            reasons[item.error] += 1
        elif "chain" in payload:
            made.append(Problem.from_record(payload["chain"]))
        else:
            reasons[payload["rejected"]] += 1
