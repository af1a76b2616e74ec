"""The prompt source: chains of verifiable prompts, from a set fixed in advance or made of what the policy masters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from raylign.config.build import build
from raylign.config.resolve import Run
from raylign.config.schema import Node, node
from raylign.contracts import ROWS, PromptSource, artifact
from raylign.data.curriculum import Curriculum
from raylign.data.cursor import Cursor
from raylign.data.identity import identity_of
from raylign.errors import DataError, Problem
from raylign.objectives.shaping import unknown_reward
from raylign.recipes.composition_rl.compose.supply import Mode, Supply
from raylign.recipes.composition_rl.compose.surrogate import Selection
from raylign.recipes.composition_rl.composers import Composer
from raylign.recipes.composition_rl.measures import solved_by_all, step_metrics
from raylign.recipes.composition_rl.seeds import SeedPrompts, as_data_error
from raylign.records import Group, Prompt, derive_seed


class CompositionSource(PromptSource):
    """Hands out composed prompts; see the card of `raylign.recipes.composition_rl`.

    The policy's tokenizer may be None where no depth exceeds 1.
    """

    @dataclass
    class Config(Selection):
        """What to compose, and when to go deeper."""

        mode: Mode = Mode.offline  # the chains of a set in a seeded order, or of what is mastered
        composer: Node = node(Composer, "raylign.recipes.composition_rl.SymbolicComposer")
        curriculum: Curriculum.Config = field(default_factory=Curriculum.Config)
        path: str = artifact(ROWS)  # of ComposedChains: a file or @STAGE; empty: compose here, with what asks nobody
        linked: bool = True  # False: side by side without a link, the paper's control
        max_prompt_tokens: int = 0  # longer chains are dropped and counted; 0: no limit
        reward: str = ""  # the reward that says solved (1); "": the only one, or else the score

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.path and self.mode is Mode.online:
                raise ValueError("path holds a set made in advance: set mode=offline, or leave path empty")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The reward that says solved is one of the run."""
        return unknown_reward(f"{key}.reward", config.reward, run.config.rewards)

    def __init__(self, config: Config, *, prompts: Sequence[Prompt], seed: int, tokenizer: Any = None) -> None:
        self.config = config
        self._online = config.mode is Mode.online
        self._seeds = SeedPrompts(prompts, tokenizer, config.max_prompt_tokens)
        self._curriculum = Curriculum(config.curriculum)
        made, chains = self._seeds.made(config.path), self._seeds.chains.values()
        composer = build(Composer, config.composer, "source.composer")
        with as_data_error("source"):
            self._supply = Supply(chains, config, composer, seed, made=made, mode=config.mode, linked=config.linked)
        self._seed = seed
        self._observed: dict[str, float] = {}
        self._cursor = self._open()

    def __len__(self) -> int:
        return len(self._cursor)

    def next(self, n: int) -> list[Prompt]:
        """The next n prompts; `visit` is the epoch. Raises DataError when a whole epoch yields none."""
        taken, dropped = list[Prompt](), 0
        while len(taken) < n:
            ((epoch, place),) = self._cursor.take(1)
            with as_data_error("source"):
                use = partial(self._seeds.prompt, visit=epoch)
                prompt = self._supply.take(self._curriculum.depth, place, epoch, use)
            taken += [prompt] if prompt else []
            dropped = 0 if prompt else dropped + 1
            if dropped >= len(self):
                raise DataError(f"none of {dropped} chains could be composed: {dict(self._supply.counts.rejected)}")
        return taken

    def observe(self, groups: Sequence[Group]) -> None:
        """Learn from all groups of a step, those that dynamic sampling dropped included."""
        depth = self._curriculum.depth
        self._observed = step_metrics(groups, self.config.reward) | {"depth": float(depth)}
        if self._online:
            for seeds in solved_by_all(groups, self.config.reward):
                self._supply.mastery.solved(seeds)
            self._observed["mastered"] = self._supply.mastery.share
        self._deeper(self._curriculum.step(self._observed.get(f"solve_all/depth_{depth}")))

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """A held-out evaluation of the present policy (`eval/score`)."""
        self._deeper("eval/score" in metrics and self._curriculum.evaluated(float(metrics["eval/score"])))

    def metrics(self) -> dict[str, float]:
        """Of the last observed step: solve-all, solve-none, per depth; and cumulative: composer yield, seed reuse."""
        counts = self._supply.counts
        return self._observed | counts.shares() | counts.reuse(len(self._seeds.prompts))

    def state_dict(self) -> dict[str, Any]:
        """Cursor, curriculum, mastery and counts, and what they are only valid with."""
        own = {"cursor": self._cursor.state_dict(), "curriculum": self._curriculum.state_dict()}
        return own | self._supply.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where the state was taken. Raises CheckpointError when prompts, seed or the set have changed."""
        self._curriculum.load_state_dict(state["curriculum"])
        self._cursor = self._open()
        self._cursor.load_state_dict(state["cursor"])
        self._supply.load_state_dict(state)

    def _open(self) -> Cursor:
        """The beginning of the chains of the curriculum's depth; online, of the last seeds at any depth."""
        depth = self._curriculum.depth
        with as_data_error(self.config.path or "source"):
            places = self._supply.places(depth)
        return Cursor(places, identity_of(self._seeds.prompts), self._seed, "order", 0 if self._online else depth)

    def _deeper(self, rises: bool) -> None:
        if rises and not self._online:
            self._cursor = self._open()


class FixedChains(CompositionSource):
    """The same chains in every run on the same seeds: a prompt set to evaluate on, or to make demonstrations of."""

    @dataclass
    class Config(CompositionSource.Config):
        """As the source that is trained on."""

        purpose: str = "evaluation"  # those of another purpose are other chains

    def __init__(self, config: Config, *, prompts: Sequence[Prompt], seed: int = 0, tokenizer: Any = None) -> None:
        own = derive_seed(0, "composition", config.purpose)
        super().__init__(config, prompts=prompts, seed=own, tokenizer=tokenizer)

    def metrics(self) -> dict[str, float]:
        """How often the observed responses to chains state v1, which is never rewarded."""
        return {name: value for name, value in self._observed.items() if name == "v1_recovered"}
