"""A reward model: the scalar head of a language model, trained on pairs and ties.

    pairs --own chat template--> ids + one token --learner (kind reward_model)--> score of the last state of each answer
          --BradleyTerry--> reward_model, a folder that Hugging Face loads, and a reward of any stage or other run

It starts from a language model (below a new head, drawn from the run's seed) or from a reward model. The policy of the
stages after it is what it was before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raylign.batch import Batch
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import DataConfig, Node, OptimConfig, Schedule, node
from raylign.contracts import REWARD_MODEL, Learner, Objective
from raylign.data.pairs import Pair, PairSet, Truncation
from raylign.data.scored import scored_pairs, scores_of
from raylign.errors import Problem
from raylign.models.scoring import Manner, Reads, tell
from raylign.objectives.loss.bradley_terry import BradleyTerry, held_out_metrics
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.on_pairs import OnPairs, PairSettings
from raylign.recipes.stages.reading import Reading
from raylign.records import Row

SCORE = "score"


class TrainRewardModel(OnPairs):
    """Train one on preference pairs. Leaves ``reward_model``, for `raylign.actors.reward.reward_model.RewardModel`.

    Pairs are rendered by the chat template of the model that the stage starts from. An answer is never cut: its score
    is read behind its end. A file of its own (`data`) is read by TRL's columns alone, whatever the settings of the
    run's prompts are; without one the run's data are the pairs, with `data.holdout` and `data.domain_key`.
    """

    @dataclass
    class Config(PairSettings):
        """Numbers of the stage; those of Llama 2's reward models (arXiv:2307.09288) where it names them."""

        objective: Node = node(Objective, "raylign.objectives.loss.bradley_terry.BradleyTerry")
        optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-5, schedule=Schedule.cosine))
        warmup_share: float = 0.03
        truncation: Truncation = Truncation.drop
        holdout: int | None = None  # pairs of its own `data` to hold out; null: a tenth, at most 256
        domain_key: str = ""  # column of its own `data` by whose values held-out figures are told, too

    kind = "reward_model"
    of_policy = False

    @classmethod
    def leaves(cls, config: Config) -> tuple[str, ...]:
        """The reward model."""
        return (REWARD_MODEL,)

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """What else must hold within a run."""
        problems = Findings(key)
        problems += super().problems(key, config, run)
        cuts, why = config.truncation is Truncation.left, "would cut ends of answers, behind which scores are read"
        problems.expect(not cuts, "truncation", "left", why, f"set {key}.truncation=drop")
        for name in ("holdout", "domain_key"):
            value, why = getattr(config, name), f"is of a file of the stage's own, and {key}.data is empty"
            problems.expect(bool(config.data) or not value, name, value, why, f"set data.{name}, or {key}.data=FILE")
        part = run.parts.get(f"{key}.objective")
        if part:
            why = "is no loss of scores of whole answers"
            fix = f"set {key}.objective._target_=raylign.objectives.loss.bradley_terry.BradleyTerry, or derive from it"
            problems.expect(issubclass(part.cls, BradleyTerry), "objective._target_", part.cls.__name__, why, fix)
        return problems

    @classmethod
    def logs(cls, key: str, config: Config, run: Run) -> tuple[str, ...]:
        """Accuracy and gaps of the held-out pairs, or of those of a step where none are held out."""
        names = ("accuracy", "tie_gap", "gap", "loss")
        holds_out = config.holdout != 0 if config.data else run.config.data.holds_out
        evaluated = (*(f"eval/{name}" for name in names), "eval/*", "before/*") if holds_out else ()
        return (*evaluated, *names, "*")

    @classmethod
    def data_problems(cls, config: Config, data: DataConfig) -> list[Problem]:
        """None where it reads a file of its own."""
        return [] if config.data else super().data_problems(config, data)

    @classmethod
    def pairs(cls, config: Config, reading: Reading, data: DataConfig, model: str) -> PairSet:
        """With ties, in the words of the reward model's own template."""
        if config.data:
            data = DataConfig(path=data.path, holdout=config.holdout, domain_key=config.domain_key)
        return reading.pairs(data, config.max_tokens, config.truncation, ties=True, model=model)

    def rows(self, pairs: Sequence[Pair]) -> list[Row]:
        """With the loss behind the answers."""
        return scored_pairs(pairs)

    async def figures(self, learner: Learner, rows: Batch, objective: Objective) -> Mapping[str, float]:
        """By the scores."""
        assert isinstance(objective, BradleyTerry), "see `problems`"
        return held_out_metrics(objective, rows, scores_of(rows, (await learner.streams(rows, [SCORE]))[SCORE]))

    async def left(self, context: RunContext, model: Path) -> dict[str, str]:
        """The folder, which says how it is to be asked."""
        template = await asyncio.to_thread(context.reading.template_of, context.lineage.model)
        tell(model, Manner(reads=Reads.end_of_turn, template_args=template.arguments), template.ends)
        context.progress.message(f"{self.name}: the reward model is {model}")
        return {REWARD_MODEL: str(model)}
