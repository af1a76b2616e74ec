"""Offline preference learning on pairs: a reference scored once, then one update a batch of pairs, no rollout.

    pairs --rows--> frozen models (frozen, once, cached on disk) --ref_logprob--> learner --> model
                                                              held-out pairs --> agreement by class

The same stage makes the models around it: ``rows: chosen`` with a cross-entropy is supervised fine-tuning on the
preferred answers, ``reference_margin: none`` with ``logprob: mean`` is SimPO, the paper's way to a reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np

from raylign.batch import Batch
from raylign.config.machine import folder_fault
from raylign.config.resolve import Run
from raylign.config.schema import Node, OptimConfig, Schedule, node
from raylign.contracts import MODEL, FrozenStream, Learner, Objective
from raylign.data.pairs import Pair, PairSet, rows_of_pairs
from raylign.data.score_cache import ScoreCache, fingerprint
from raylign.errors import Problem
from raylign.objectives.loss.bradley_terry import BradleyTerry
from raylign.objectives.loss.pairs import pair_rows
from raylign.objectives.loss.preference import PreferenceLoss, held_out_metrics
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.on_pairs import OnPairs, PairSettings
from raylign.records import Row

REFERENCE = "ref_logprob"
LOGPROBS = "old_logprob"  # the learner's own
SCORED_PAIRS = 256  # of one call to the frozen models, and of one shard of the cache


class Rows(Enum):
    """Which rows of a pair the objective sees: both, or the chosen answers alone."""

    pair = "pair"
    chosen = "chosen"


class Preference(OnPairs):
    """Train on preference pairs."""

    @dataclass
    class Config(PairSettings):
        """Numbers of the stage, those of HyPO's released recipes by default."""

        batch_pairs: int = 128
        rows: Rows = Rows.pair
        objective: Node = node(Objective, "raylign.objectives.loss.preference.PreferenceLoss")
        optim: OptimConfig = field(
            default_factory=lambda: OptimConfig(
                lr=1e-6, betas=[0.9, 0.999], schedule=Schedule.cosine, min_lr_ratio=0.0, max_grad_norm=0.0
            )
        )
        cache: str = "~/.cache/raylign/scores"  # reference log-probs, by content; empty: below the run folder

    unread = ("answer_key", "domain_key", "verifier")

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The trained model."""
        return (MODEL,)

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """What else must hold within a run."""
        problems, settings = super().problems(key, config, run), run.config
        temperature, name = settings.rollout.sampling.temperature, "rollout.sampling.temperature"
        if temperature != 1:
            why = "log-probs are taken at this temperature, and a margin means something at 1 only"
            problems.append(_problem(name, temperature, why, "set it to 1"))
        if config.cache and (why := folder_fault(Path(config.cache))):
            fix = f"name a folder that can be written, or set {key}.cache= to keep it with the run"
            problems.append(_problem(f"{key}.cache", config.cache, why, fix))
        part = run.parts.get(f"{key}.objective")
        objective: Objective | None = part.build() if part else None
        if objective is None:  # at fault, which is told where it stands
            return problems
        if isinstance(objective, BradleyTerry):
            why, fix = "is of a reward model's scores, and this stage trains a policy", "set another objective, or "
            fix += f"{key}._target_=raylign.recipes.stages.reward_model.TrainRewardModel"
            problems.append(_problem(f"{key}.objective._target_", "BradleyTerry", why, fix))
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

    def rows(self, pairs: Sequence[Pair]) -> list[Row]:
        """With the loss on the answers."""
        return rows_of_pairs(pairs)

    def shown(self, batch: Batch) -> Batch:
        """Both answers, or the chosen ones."""
        return batch if self.config.rows is Rows.pair else batch.select(pair_rows(batch)[0])

    async def figures(self, learner: Learner, rows: Batch, objective: Objective) -> Mapping[str, float]:
        """By the policy's log-probs, and the reference's where the rows have them."""
        judge = objective if isinstance(objective, PreferenceLoss) else PreferenceLoss.without_reference()
        return held_out_metrics(judge, rows, (await learner.streams(rows, [LOGPROBS]))[LOGPROBS])

    async def left(self, context: RunContext, model: Path) -> dict[str, str]:
        """The model, from which the next stage starts."""
        context.hand_over(model, published=None, lora=self.config.lora)
        return {MODEL: str(model)}

    async def batches(self, context: RunContext, pairs: PairSet, objective: Objective) -> tuple[Batch, Batch | None]:
        """With the reference's log-probs where the objective needs them."""
        train, held_out = await super().batches(context, pairs, objective)
        if REFERENCE in objective.needs:
            cache = ScoreCache(
                Path(self.config.cache or context.folder.path / "scores"), reference_identity(context, pairs)
            )
            train = await _scored(context, cache, train, pairs.train)
            held_out = held_out and await _scored(context, cache, held_out, pairs.holdout)
            await context.roles.frozen.close()
        return train, held_out


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


def reference_identity(context: RunContext, pairs: PairSet) -> dict[str, str]:
    """Cache key of the reference: the content of its models and every setting that changes their log-probs. Where these
    depend on more of a row than its ids, by domain, a context or a template of its own, all rows belong to it.
    """
    cfg = context.cfg
    wanted = [frozen for frozen in cfg.frozen.values() if frozen.stream == REFERENCE]
    models = [
        f"{frozen.domain}|{fingerprint(context.lineage.of(frozen.path))}|own_template={frozen.own_template}"
        f"|{sorted(frozen.template_args.items())}"
        for frozen in wanted
    ]
    identity = {"models": " ".join(sorted(models)), "dtype": cfg.model.dtype, "temperature": "1"}
    if any(frozen.domain or frozen.context or frozen.own_template for frozen in wanted):
        contexts = " ".join(str(sorted(frozen.context.items())) for frozen in wanted)
        identity["rows"] = f"{contexts} {pairs.asked}"
    return identity


def _problem(key: str, value: object, why: str, fix: str) -> Problem:
    return Problem(key=key, value=str(value), why=why, fix=fix)
