"""How the model of scale=tiny comes to think: it imitates traces of sums, half of them with a plan before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from raylign.data.questions import last_user
from raylign.recipes.inject_rbp.toy import asked, habit, plan_block, trace
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.recipes.stages.sft import ReadRun, Sft
from raylign.records import Prompt, Row, derive_seed


class Pretrain(Sft):
    """Fine-tune on `traces` traces of every training question, each with a plan before it or without."""

    @dataclass
    class Config(Sft.Config):
        """What is imitated."""

        traces: int = 16  # of every question
        planned: float = 0.5  # share of them that begin with their plan

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.traces < 1 or not 0 <= self.planned <= 1:
                raise ValueError(f"traces={self.traces}, planned={self.planned}: set 1 or more, and a share")

    def __init__(self, config: Config, name: str) -> None:
        super().__init__(config, name)
        self.config: Pretrain.Config = config

    def rows(self, context: ReadRun) -> list[Row]:
        """Raises DataError on questions of another task."""
        seed, template = context.cfg.seed, context.template
        made = [each for prompt in context.prompts.train for each in self._traces(prompt, seed)]
        ids = template.prompts_ids([each.messages for each in made], (), [each.place for each in made])
        encoded = [replace(each, token_ids=np.asarray(row, np.int32)) for each, row in zip(made, ids, strict=True)]
        return demonstrations(encoded, template, stage=f"stages.{self.name}")

    def _traces(self, prompt: Prompt, seed: int) -> Iterator[Prompt]:
        """Prompts with their targets, not encoded yet."""
        family, summands = asked(last_user(prompt))
        for number in range(self.config.traces):
            rng = np.random.default_rng(derive_seed(seed, prompt.id, "pretrain", number))
            chain = habit(family, rng)
            block = plan_block(chain) if rng.random() < self.config.planned else ""
            messages = ({"role": "user", "content": block + last_user(prompt)},)
            meta = {"target": trace(family, summands, chain, rng)}
            yield replace(prompt, id=f"{prompt.id}-{number}", messages=messages, meta=meta)
