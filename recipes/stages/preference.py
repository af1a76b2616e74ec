"""Offline preference learning on pairs: a reference scored once, then one update a batch of pairs, no rollout.

    pairs --rows--> frozen models (frozen, once, cached on disk) --ref_logprob--> learner --> model
                                                              held-out pairs --> agreement by class

The same stage makes the models around it: ``rows: chosen`` with a cross-entropy is supervised fine-tuning on the
preferred answers, ``reference_margin: none`` with ``logprob: mean`` is SimPO, the paper's way to a reference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from raylign.batch import Batch
from raylign.config.machine import folder_fault
from raylign.config.resolve import Run
from raylign.config.schema import LoraConfig, Node, OptimConfig, Schedule, node, undropped
from raylign.contracts import MODEL, FrozenStream, Objective, Stage, StageResult, StageSettings
from raylign.data.identity import identity_of_rows
from raylign.data.pairs import Pair, PairSet, Truncation, rows_of_pairs
from raylign.data.score_cache import ScoreCache, fingerprint
from raylign.errors import Problem
from raylign.objectives.loss.margin import ReferenceMargin
from raylign.objectives.loss.pairs import pair_rows
from raylign.objectives.loss.preference import PreferenceLoss, held_out_metrics
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.training import TrainedModel, Training

REFERENCE = "ref_logprob"
LOGPROBS = "old_logprob"  # the learner's own
SCORED_PAIRS = 256  # of one call to the frozen models, and of one shard of the cache


class Rows(Enum):
    """Which rows of a pair the objective sees: both, or the chosen answers alone."""

    pair = "pair"
    chosen = "chosen"


class Preference(Stage):
    """Train on preference pairs."""

    @dataclass
    class Config(StageSettings):
        """Numbers of the stage, those of HyPO's released recipes by default. One step = `batch_pairs` pairs."""

        epochs: float = 1.0
        steps: int = 0  # 0: as many as `epochs` take
        batch_pairs: int = 128
        rows: Rows = Rows.pair
        objective: Node = node(Objective, "raylign.objectives.loss.preference.PreferenceLoss")
        optim: OptimConfig = field(
            default_factory=lambda: OptimConfig(
                lr=1e-6, betas=[0.9, 0.999], schedule=Schedule.cosine, min_lr_ratio=0.0, max_grad_norm=0.0
            )
        )
        lora: LoraConfig = field(default_factory=LoraConfig)  # rank above 0: adapters are trained, not all weights
        warmup_share: float = 0.1  # of all steps; used when optim.warmup_steps is 0
        max_tokens: int = 2048  # prompt and answer; a prompt alone: data.max_prompt_tokens
        truncation: Truncation = Truncation.left
        eval_every: int = 0  # steps between evaluations on the held-out pairs; 0: before and after only
        cache: str = "~/.cache/raylign/scores"  # reference log-probs, by content; empty: below the run folder

        def __post_init__(self) -> None:
            if self.batch_pairs < 1 or self.max_tokens < 2:
                name = "batch_pairs" if self.batch_pairs < 1 else "max_tokens"
                raise ValueError(
                    f"{name} is {getattr(self, name)}, set it to {1 if name == 'batch_pairs' else 2} or more"
                )
            if self.epochs <= 0:
                raise ValueError(f"epochs is {self.epochs}, set it above 0")
            if not 0 <= self.warmup_share < 1:
                raise ValueError(f"warmup_share={self.warmup_share} must be at least 0 and below 1")

    @classmethod
    def roles(cls, config: Config) -> frozenset[str]:
        """A learner; the frozen models follow from what the objective needs."""
        return frozenset({"learner"})

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The trained model."""
        return (MODEL,)

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """What else must hold within a run."""
        problems, settings = undropped(key, config.lora), run.config
        if settings.rollout.sampling.temperature != 1:
            why = "log-probs are taken at this temperature, and a margin means something at 1 only"
            problems.append(
                _problem("rollout.sampling.temperature", settings.rollout.sampling.temperature, why, "set it to 1")
            )
        context = settings.model.max_context
        if config.max_tokens > context:
            fix = f"set {key}.max_tokens={context}, or model.max_context={config.max_tokens} where the model allows it"
            why = f"is more than model.max_context={context}"
            problems.append(_problem(f"{key}.max_tokens", config.max_tokens, why, fix))
        if settings.data.max_prompt_tokens >= config.max_tokens:
            why = f"leaves no room for an answer in {key}.max_tokens={config.max_tokens}"
            fix = f"set data.max_prompt_tokens={config.max_tokens // 2}"
            problems.append(_problem("data.max_prompt_tokens", settings.data.max_prompt_tokens, why, fix))
        for name in ("answer_key", "domain_key", "verifier"):
            if getattr(settings.data, name):
                why = "means nothing for preference pairs: chosen and rejected are their answers"
                problems.append(_problem(f"data.{name}", getattr(settings.data, name), why, f"set data.{name}="))
        if config.cache and (why := folder_fault(Path(config.cache))):
            fix = f"name a folder that can be written, or set {key}.cache= to keep it with the run"
            problems.append(_problem(f"{key}.cache", config.cache, why, fix))
        if settings.data.format not in ("auto", "trl"):
            why = "pairs are read by their columns prompt, chosen and rejected"
            problems.append(_problem("data.format", settings.data.format, why, "set data.format=auto"))
        part = run.parts.get(f"{key}.objective")
        objective: Objective | None = part.build() if part else None
        if objective is None:  # at fault, which is told where it stands
            return problems
        if isinstance(objective, PreferenceLoss) and config.rows is Rows.chosen:
            problems.append(
                _problem(f"{key}.rows", "chosen", "a preference objective compares both answers", "set rows: pair")
            )
        if REFERENCE in objective.needs and all(frozen.stream != REFERENCE for frozen in settings.frozen.values()):
            why = f"no frozen model fills {REFERENCE}"
            problems.append(
                _problem(
                    "frozen",
                    ", ".join(settings.frozen) or "none",
                    why,
                    "add frozen.reference.path=MODEL",
                )
            )
        return problems

    @classmethod
    def logs(cls, key: str, config: Config, run: Run) -> tuple[str, ...]:
        """Accuracy, margin and loss of the held-out pairs, or of those of a step where none are held out."""
        part = run.parts.get(f"{key}.objective")
        objective = part.build() if part else None
        names: tuple[str, ...] = ("agreement", "margin", "loss")
        if config.rows is Rows.chosen:
            names = ("nll", "loss")
        elif isinstance(objective, PreferenceLoss) and REFERENCE in objective.needs:
            names = ("rewards/accuracy", "rewards/margin", "loss")
        evaluated = (*(f"eval/{name}" for name in names), "eval/*", "before/*") if run.config.data.holds_out else ()
        return (*evaluated, *names, "*")

    async def run(self, context: RunContext) -> StageResult:
        """Score the reference, train from the newest checkpoint if there is one, export the model."""
        config, folder = self.config, context.folder.stage(self.name)
        objective: Objective = context.run.parts[f"stages.{self.name}.objective"].build()
        settings = (config.max_tokens, config.truncation)
        pairs = await asyncio.to_thread(context.reading.pairs, context.data, *settings)
        context.progress.message(str(pairs.report))
        steps = config.steps or max(1, round(config.epochs * -(-len(pairs.train) // config.batch_pairs)))
        identity = await asyncio.to_thread(identity_of_rows, rows_of_pairs((*pairs.train, *pairs.holdout)))
        training = await asyncio.to_thread(Training, context, self.name, steps, identity)
        context.phase(self.name, 0, "score")
        train, held_out = await self._rows(context, pairs, objective)
        learner = await context.learner(
            self._optim(steps), steps + 1, config.lora
        )  # the schedule ends after the last step
        trained = TrainedModel(learner)
        await training.resume(trained)
        kept = training.kept
        if not training.newest:
            kept["before"] = await _evaluate(learner, held_out, objective, "before")
            context.recorder.event("held_out", stage=self.name, **kept["before"])
        batches = pair_batches(train, config.batch_pairs, context.cfg.seed, training.start)
        async for step in training.steps(trained):
            context.phase(self.name, step, "learn")
            metrics = dict((await learner.update(self._shown(next(batches)), config.objective)).metrics)
            if step + 1 == steps or (config.eval_every and (step + 1) % config.eval_every == 0):
                kept["after"] = await _evaluate(learner, held_out, objective, "eval")
                metrics |= kept["after"]
            context.record(self.name, step + 1, metrics)
        await learner.export(str(folder / "model"))
        context.hand_over(folder / "model", published=False)
        artifacts = {MODEL: str(folder / "model")}
        return StageResult(steps=steps, metrics={**kept["before"], **kept["after"]}, artifacts=artifacts)

    def _optim(self, steps: int) -> OptimConfig:
        warmup = self.config.optim.warmup_steps or round(self.config.warmup_share * steps)
        return replace(self.config.optim, warmup_steps=warmup)

    def _shown(self, batch: Batch) -> Batch:
        return batch if self.config.rows is Rows.pair else batch.select(pair_rows(batch)[0])

    async def _rows(self, context: RunContext, pairs: PairSet, objective: Objective) -> tuple[Batch, Batch | None]:
        """Training and held-out rows, with the reference's log-probs where the objective needs them."""
        parts = [Batch.from_rows(rows_of_pairs(part)) if part else None for part in (pairs.train, pairs.holdout)]
        if REFERENCE in objective.needs:
            cache = ScoreCache(Path(self.config.cache or context.folder.path / "scores"), _identity(context))
            parts = [
                part and await _scored(context, cache, part, listed)
                for part, listed in zip(parts, (pairs.train, pairs.holdout), strict=True)
            ]
            await context.roles.frozen.close()
        train, held_out = parts
        assert train is not None, "load_pairs raises when there is nothing to train on"
        return train, held_out


def pair_batches(rows: Batch, size: int, seed: int, start: int) -> Iterator[Batch]:
    """Batches of `size` pairs from step `start` on: every epoch a permutation drawn from (seed, epoch), in full."""
    chosen, rejected = pair_rows(rows)
    per_epoch = max(1, -(-len(chosen) // size))
    step = start
    while True:
        epoch, index = divmod(step, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(chosen))[index * size : (index + 1) * size]
        yield rows.select(np.stack([chosen[order], rejected[order]], axis=1).reshape(-1))
        step += 1


async def _scored(context: RunContext, cache: ScoreCache, rows: Batch, pairs: tuple[Pair, ...]) -> Batch:
    """The rows with the reference's stream. Frozen models start only when the cache lacks a row."""
    chosen, rejected = pair_rows(rows)
    prompts = [pair.prompt for pair in pairs]
    known = np.array([row is not None for row in cache.find(rows)])
    frozen: FrozenStream | None = None
    for first in range(0, len(chosen), SCORED_PAIRS):
        block = np.concatenate([side[first : first + SCORED_PAIRS] for side in (chosen, rejected)])
        missing = np.sort(block[~known[block]])
        if not len(missing):
            continue
        if frozen is None:
            context.progress.message(f"reference: scoring {int(np.sum(~known))} of {len(rows)} rows")
            frozen = (await context.frozen({REFERENCE}, prompts))[REFERENCE]
        part = rows.select(missing)
        cache.store(part, await frozen.stream(part, prompts))
    return rows.with_streams(**{REFERENCE: cache.stream(rows)})


def _identity(context: RunContext) -> dict[str, str]:
    """Cache key of the reference: the content of its models and every setting that changes their log-probs."""
    cfg = context.cfg
    wanted = [frozen for frozen in cfg.frozen.values() if frozen.stream == REFERENCE]
    models = [
        f"{frozen.domain}|{fingerprint(context.lineage.of(frozen.path))}|own_template={frozen.own_template}"
        f"|{sorted(frozen.template_args.items())}"
        for frozen in wanted
    ]
    return {"models": " ".join(sorted(models)), "dtype": cfg.model.dtype, "temperature": "1"}


async def _evaluate(learner: Any, rows: Batch | None, objective: Objective, prefix: str) -> dict[str, float]:
    """Metrics of the held-out pairs as ``<prefix>/<metric>``; none when nothing is held out."""
    if rows is None:
        return {}
    plain = PreferenceLoss.Config(reference_margin=ReferenceMargin.none, classify=False)
    judge = objective if isinstance(objective, PreferenceLoss) else PreferenceLoss(plain)
    streams = await learner.streams(rows, [LOGPROBS])
    metrics = held_out_metrics(judge, rows, streams[LOGPROBS])
    return {f"{prefix}/{name}": value for name, value in metrics.items()}


def _problem(key: str, value: object, why: str, fix: str) -> Problem:
    return Problem(key=key, value=str(value), why=why, fix=fix)
