"""The prompt source: chains of verifiable prompts, from a set fixed in advance or made of what the policy masters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from raylign.config.build import build
from raylign.config.resolve import Run
from raylign.config.schema import Node, node
from raylign.contracts import Part, PromptSource
from raylign.data.curriculum import Curriculum
from raylign.data.cursor import Cursor
from raylign.data.files import read_rows
from raylign.data.identity import identity_of
from raylign.data.pass_rate import passes
from raylign.errors import DataError, Problem
from raylign.objectives.shaping import unknown_reward
from raylign.recipes.composition_rl.compose.chain import Chain, Rejected
from raylign.recipes.composition_rl.compose.counts import CompositionCounts
from raylign.recipes.composition_rl.compose.drive import Work, compose_now
from raylign.recipes.composition_rl.compose.mastery import Mastery
from raylign.recipes.composition_rl.compose.operation import side_by_side, spc
from raylign.recipes.composition_rl.compose.rows import by_depth
from raylign.recipes.composition_rl.compose.surrogate import Selection
from raylign.recipes.composition_rl.compose.symbolic import RuleComposer
from raylign.recipes.composition_rl.measures import composition, step_metrics
from raylign.recipes.composition_rl.seeds import SeedPrompts, as_data_error
from raylign.records import Group, Prompt, derive_seed


class Mode(Enum):
    """Where chains come from."""

    offline = "offline"  # the surrogate set of the curriculum's depth, or the rows of `path`, in a seeded order
    online = "online"  # the data set's prompts; one that all rollouts solved comes back a link deeper


class Composer(Part):
    """Makes one chain of two and asks nobody; see `compose.drive`."""

    what = "a composer that asks no model (for one that does, make a set by the stage ComposeSet)"

    @abstractmethod
    def work(self, first: Chain, second: Chain) -> Work:
        """The requests of one composition; returns the chain or why it was dropped."""


class SymbolicComposer(RuleComposer, Composer):
    """Composes by the rules of `compose.symbolic`."""


class CompositionSource(PromptSource):
    """Hands out composed prompts; see the card of `raylign.recipes.composition_rl`.

    The policy's tokenizer may be None where no depth exceeds 1.
    """

    @dataclass
    class Config(Selection):
        """What to compose, and when to go deeper."""

        mode: Mode = Mode.offline
        composer: Node = node(Composer, "raylign.recipes.composition_rl.SymbolicComposer")
        curriculum: Curriculum.Config = field(default_factory=Curriculum.Config)
        path: str = ""  # composed rows (of the stage ComposeSet); empty: compose here, with a composer that asks nobody
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
        self._seed = seed
        self._composer = build(Composer, config.composer, "source.composer")
        self.seeds = SeedPrompts(prompts, tokenizer, config.max_prompt_tokens)
        self.curriculum = Curriculum(config.curriculum)
        self.counts = CompositionCounts()
        with as_data_error("source"):
            self._first, self._last = config.seeds(self.seeds.chains.values(), seed)
        with as_data_error(f"{config.path} (the stage ComposeSet writes such rows)"):
            self._made = by_depth(read_rows(Path(config.path).expanduser()), self.seeds.chains) if config.path else {}
        self._mastery = Mastery(self._first, seed)
        self._identity = identity_of(self.seeds.prompts)
        self._observed: dict[str, float] = {}
        self._cursor = self._open()

    def __len__(self) -> int:
        return len(self._cursor)

    def next(self, n: int) -> list[Prompt]:
        """The next n prompts; `visit` is the epoch. Raises DataError when a whole epoch yields none."""
        taken, dropped = list[Prompt](), 0
        while len(taken) < n:
            ((epoch, number),) = self._cursor.take(1)
            made = (self._make(chains, epoch) for chains in self._choices(number, epoch))
            prompts = list(islice(filter(None, made), 1))
            taken += prompts
            dropped = 0 if prompts else dropped + 1
            if dropped >= len(self):
                raise DataError(f"none of {dropped} chains could be composed: {dict(self.counts.rejected)}")
        return taken

    def observe(self, groups: Sequence[Group]) -> None:
        """Learn from all groups of a step, those that dynamic sampling dropped included."""
        depth = self.curriculum.depth
        self._observed = step_metrics(groups, self.config.reward) | {"depth": float(depth)}
        if self.config.mode is Mode.online:
            for group in groups:
                passed = passes(group, self.config.reward)
                if composition(group)["seeds"] and passed and min(passed) == 1:
                    self._mastery.solved(composition(group)["seeds"])
            self._observed["mastered"] = self._mastery.share
        self._deeper(self.curriculum.step(self._observed.get(f"solve_all/depth_{depth}")))

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """A held-out evaluation of the present policy (`eval/score`)."""
        self._deeper("eval/score" in metrics and self.curriculum.evaluated(float(metrics["eval/score"])))

    def metrics(self) -> dict[str, float]:
        """Of the last observed step: solve-all, solve-none, per depth; and cumulative: composer yield, seed reuse."""
        return self._observed | self.counts.shares() | self.counts.reuse(len(self.seeds.prompts))

    def state_dict(self) -> dict[str, Any]:
        """Cursor, curriculum, mastery and counts, and what they are only valid with."""
        return {
            "cursor": self._cursor.state_dict(),
            "curriculum": self.curriculum.state_dict(),
            "counts": self.counts.state_dict(),
            "mastery": self._mastery.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where the state was taken. Raises CheckpointError when prompts, seed or the set have changed."""
        self.curriculum.load_state_dict(state["curriculum"])
        self._cursor = self._open()
        self._cursor.load_state_dict(state["cursor"])
        self.counts.load_state_dict(state["counts"])
        self._mastery.load_state_dict(state["mastery"])

    def _open(self) -> Cursor:
        """The beginning of the set of the curriculum's depth; in the online mode, of the last seeds at any depth."""
        depth, config = self.curriculum.depth, self.config
        if config.mode is Mode.online:
            return Cursor(len(self._last), self._identity, self._seed, "order", 0)
        if self._made and depth > 1 and depth not in self._made:
            raise DataError(f"{config.path} holds no chain of depth {depth}; it holds depths {sorted(self._made)}")
        with as_data_error("source"):
            self._set = config.chains(self._first, self._last, depth, self._seed)
        return Cursor(len(self._made.get(depth, self._set)), self._identity, self._seed, "order", depth)

    def _deeper(self, rises: bool) -> None:
        if rises and self.config.mode is Mode.offline:
            self._cursor = self._open()

    def _choices(self, number: int, epoch: int) -> Iterable[list[Chain]]:
        """What may be composed at a place of the cursor, best first."""
        if self.config.mode is Mode.online:
            return self._mastery.chains(self._last[number], self.curriculum.depth, epoch)
        made = self._made.get(self.curriculum.depth)
        return [[made[number]] if made else self._set.chain(number)]

    def _make(self, chains: Sequence[Chain], epoch: int) -> Prompt | None:
        """The prompt of some chains made one, or None when it was dropped; counted either way."""
        with as_data_error("source"):
            compose = partial(compose_now, self._composer)
            chain = spc(chains, compose) if self.config.linked or len(chains) == 1 else side_by_side(chains)
        prompt = chain if isinstance(chain, Rejected) else self.seeds.prompt(chain, epoch)
        self.counts.count(prompt if isinstance(prompt, Rejected) else chain)
        return None if isinstance(prompt, Rejected) else prompt


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
