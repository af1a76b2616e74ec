"""The toy's warm-up: imitate worked solutions of chains, so that RL starts from partly solved ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raylign.data.curriculum import Curriculum
from raylign.recipes.composition_rl.source import FixedChains
from raylign.recipes.composition_rl.toy import with_solution
from raylign.recipes.stages.context import RunContext
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.recipes.stages.sft import ReadRun, Sft
from raylign.records import Prompt, Row


class WarmUp(Sft):
    """Imitate worked solutions of the toy's seeds and of chains of them."""

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

    def rows(self, context: ReadRun) -> list[Row]:
        """Prompts of every depth by their shares, each with its gold response as the target."""
        prompts: list[Prompt] = []
        for depth, share in enumerate(self.config.shares, 1):
            if count := round(share * self.config.rows):
                source = _source(context, depth, "warm-up", self.config.first_seeds)
                different = source.next(len(source))[: self.config.chains if depth > 1 else None]
                prompts += [different[number % len(different)] for number in range(count)]
        return demonstrations([with_solution(prompt) for prompt in prompts], context.template)

    async def _pass_rate(self, context: RunContext, learner: Any, step: int) -> dict[str, float]:
        """Greedy score on the deepest chains shown, for `stop_at`: how soon a model follows a link differs by seed."""
        rollouts = await context.rollouts(publishes=True)
        await rollouts.publish(await learner.publish(step))
        source = _source(context, len(self.config.shares), "warm-up's end")
        return (await context.evaluate(source.next(self.config.eval_prompts))).metrics


def _source(context: ReadRun, depth: int, purpose: str, first: int = 0) -> FixedChains:
    """Chains of one depth over the run's seeds, by the composer of its source."""
    given = {name: value for name, value in context.cfg.source.items() if name in ("composer", "reward")}
    curriculum = Curriculum.Config(depths=[depth])
    config = FixedChains.Config(curriculum=curriculum, purpose=purpose, first_size=first, **given)
    return FixedChains(config, prompts=context.prompts.train, tokenizer=context.template)
