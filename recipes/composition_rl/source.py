"""The prompt source: chains of verifiable prompts, from a set fixed in advance or made of what the policy masters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import PromptSource
from raylign.errors import CheckpointError, DataError
from raylign.recipes.composition_rl.chains import Slots, SurrogateSet
from raylign.recipes.composition_rl.curriculum import Curriculum
from raylign.recipes.composition_rl.drive import Composer
from raylign.recipes.composition_rl.measures import composition, passes, reuse_metrics, step_metrics
from raylign.recipes.composition_rl.pool import Pool
from raylign.recipes.composition_rl.problem import Problem
from raylign.records import Group, Prompt, content_id, derive_seed

TRIES = 8  # chains that the online mode tries for one mastered prompt before it hands out the prompt itself


class Mode(Enum):
    """Where chains come from.

    `offline`: the surrogate set of the curriculum's depth, or the rows of `path`, in a seeded order. `online`: the data
    set's own prompts; one that all rollouts solved comes back one link deeper, after seeds that are mastered as well.
    """

    offline = "offline"
    online = "online"


class CompositionSource(PromptSource):
    """Hands out composed prompts; see the card of `raylign.recipes.composition_rl`.

    Needs from the stage: the seed prompts, the run's seed, and the policy's tokenizer (None where no depth exceeds 1).
    """

    @dataclass
    class Config:
        """What to compose, and when to go deeper."""

        mode: Mode = Mode.offline
        composer: Node = node(Composer, "raylign.recipes.composition_rl.SymbolicComposer")
        curriculum: Curriculum.Config = field(default_factory=Curriculum.Config)
        path: str = ""  # composed rows (of the stage ComposeSet); empty: compose here, with a composer that asks nobody
        candidates: int = 20  # members of D_k for every last seed and every slot before it
        slots: Slots = Slots.product
        first_domain: str = ""  # seeds of the slots before the last, "": all; cross-domain composition
        last_domain: str = ""  # seeds of the last slot, "": all
        first_size: int = 0  # seeds that may stand before the last slot, drawn once (the paper's ablation: 500); 0: all
        last_size: int = 0  # the same of the last slot
        linked: bool = True  # False: side by side without a link, the paper's control
        max_prompt_tokens: int = 0  # longer chains are dropped and counted; 0: no limit
        reward: str = ""  # the reward that says solved (1); "": the only one, or else the score

        def __post_init__(self) -> None:
            if self.candidates < 1:
                raise ValueError(f"candidates={self.candidates} must be at least 1")
            if min(self.first_size, self.last_size) < 0:
                raise ValueError(f"first_size={self.first_size}, last_size={self.last_size}: 0 (all) or more")
            if self.path and self.mode is Mode.online:
                raise ValueError("path holds a set made in advance: set mode=offline, or leave path empty")

    def __init__(
        self, config: Config, *, prompts: Sequence[Prompt], seed: int, tokenizer: Any = None, **_: Any
    ) -> None:
        self.config = config
        self._seed = seed
        composer = build(Composer, config.composer, "source.composer")
        self.pool = Pool(prompts, composer, tokenizer, config.max_prompt_tokens, config.linked)
        self.curriculum = Curriculum(config.curriculum)
        self._first = _drawn(self.pool.of_domain(config.first_domain), config.first_size, seed, "first seeds")
        self._may_stand_first = {problem.id for problem in self._first}
        self._last = _drawn(self.pool.of_domain(config.last_domain), config.last_size, seed, "last seeds")
        self._rows = self.pool.read(config.path) if config.path else {}
        self._epoch = 0
        self._cursor = 0
        self._levels: dict[str, int] = {}  # online: depth at which a seed comes next, 1 where absent
        self._mastered: list[str] = []  # online: solved by all rollouts at depth 1, in the order of their mastery
        self._found: dict[str, float] = {}
        self._fingerprint = content_id(*self.pool.prompts)
        self._set: SurrogateSet | None = None
        self._size = 0
        self._order = np.zeros(0, np.int64)
        self._open()

    def __len__(self) -> int:
        return len(self._order)

    def next(self, n: int) -> list[Prompt]:
        """The next n prompts; `visit` is the epoch. Raises DataError when a whole epoch yields none."""
        taken: list[Prompt] = []
        dropped = 0
        while len(taken) < n:
            if self._cursor == len(self._order):
                self._epoch, self._cursor = self._epoch + 1, 0
                self._order = self._permutation()
            number = int(self._order[self._cursor])
            self._cursor += 1
            prompt = self._online(number) if self.config.mode is Mode.online else self._offline(number)
            if prompt is not None:
                taken.append(prompt)
                dropped = 0
                continue
            dropped += 1
            if dropped >= len(self._order):
                raise DataError(f"none of {dropped} chains could be composed: {dict(self.pool.counts)}")
        return taken

    def observe(self, groups: Sequence[Group]) -> None:
        """Learn from all groups of a step, those that dynamic sampling dropped included."""
        depth = self.curriculum.depth
        self._found = step_metrics(groups, self.config.reward) | {"depth": float(depth)}
        if self.config.mode is Mode.online:
            for group in groups:
                self._promote(group)
            self._found["mastered"] = len(self._mastered) / len(self._first)
        if self.curriculum.step(self._found.get(f"solve_all/depth_{depth}")):
            self._deeper()

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """A held-out evaluation of the present policy (`eval/score`)."""
        if "eval/score" in metrics and self.curriculum.evaluated(float(metrics["eval/score"])):
            self._deeper()

    def metrics(self) -> dict[str, float]:
        """Of the last observed step: solve-all, solve-none, per depth; and cumulative: composer yield, seed reuse."""
        return self._found | self.pool.metrics() | reuse_metrics(self.pool.uses, len(self.pool.prompts))

    def state_dict(self) -> dict[str, Any]:
        """Cursor, curriculum, mastery and counts, and what they are only valid with."""
        return {
            "epoch": self._epoch,
            "cursor": self._cursor,
            "curriculum": self.curriculum.state_dict(),
            "pool": self.pool.state_dict(),
            "levels": dict(self._levels),
            "mastered": list(self._mastered),
            "fingerprint": self._fingerprint,
            "order": self._digest(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where the state was taken. Raises CheckpointError when prompts, seed or the set have changed."""
        if state["fingerprint"] != self._fingerprint:
            raise CheckpointError("the checkpoint was made on other prompts; restore the data set, or start a new run")
        self.curriculum.load_state_dict(state["curriculum"])
        self.pool.load_state_dict(state["pool"])
        self._levels = {str(seed): int(level) for seed, level in state["levels"].items()}
        self._mastered = [str(seed) for seed in state["mastered"]]
        self._open()
        self._epoch, self._cursor = int(state["epoch"]), int(state["cursor"])
        self._order = self._permutation()
        if state["order"] != self._digest():
            raise CheckpointError("the checkpoint was made with another seed or other settings of the prompt source")

    def _open(self) -> None:
        """Stand at the beginning of the set of the curriculum's depth."""
        depth, config = self.curriculum.depth, self.config
        self._epoch = self._cursor = 0
        self._set = None
        if config.mode is Mode.online:
            self._size = len(self._last)
        elif config.path and depth > 1:
            self._size = len(self._rows.get(depth, ()))
            if not self._size:
                raise DataError(f"{config.path} holds no chain of depth {depth}; it holds depths {sorted(self._rows)}")
        else:
            self._set = SurrogateSet(
                self._first,
                self._last,
                depth,
                candidates=config.candidates,
                slots=config.slots,
                seed=self._seed,
            )
            self._size = len(self._set)
        self._order = self._permutation()

    def _deeper(self) -> None:
        if self.config.mode is Mode.offline:
            self._open()

    def _permutation(self) -> np.ndarray:
        depth = self.curriculum.depth if self.config.mode is Mode.offline else 0
        generator = np.random.Generator(np.random.PCG64(derive_seed(self._seed, "order", depth, self._epoch)))
        return generator.permutation(self._size)

    def _offline(self, number: int) -> Prompt | None:
        if self._set is None:
            self.pool.counts["asked"] += 1
            return self.pool.render(self._rows[self.curriculum.depth][number], self._epoch)
        return self.pool.make(self._set.chain(number), self._epoch)

    def _online(self, number: int) -> Prompt | None:
        last = self._last[number]
        level = min(self._levels.get(last.id, 1), self.curriculum.depth)
        before = [self.pool.problems[seed] for seed in self._mastered if seed != last.id]
        if level > 1 and len(before) >= level - 1:
            for attempt in range(TRIES):
                rng = np.random.default_rng(derive_seed(self._seed, "online", last.id, self._epoch, attempt) % 2**63)
                picked: list[Problem] = [before[i] for i in rng.choice(len(before), size=level - 1, replace=False)]
                prompt = self.pool.make([*picked, last], self._epoch)
                if prompt is not None:
                    return prompt
        return self.pool.make([last], self._epoch)

    def _promote(self, group: Group) -> None:
        """A prompt that every rollout solved comes back one deeper; a mastered seed may stand before others."""
        found = composition(group)
        passed = passes(group, self.config.reward)
        if not found or not passed or min(passed) < 1:
            return
        depth, last = int(found["depth"]), str(found["seeds"][-1])
        self._levels[last] = max(self._levels.get(last, 1), depth + 1)
        if depth == 1 and last in self._may_stand_first and last not in self._mastered:
            self._mastered.append(last)

    def _digest(self) -> str:
        return content_id(str(len(self._order)), *map(str, self._order[:4096]))


def _drawn(seeds: list[Problem], size: int, seed: int, slot: str) -> list[Problem]:
    """`size` of the seeds in their order, all for 0. Raises DataError when there are fewer."""
    if not size:
        return seeds
    if size > len(seeds):
        raise DataError(f"source: {size} {slot} are asked for and there are {len(seeds)}")
    rng = np.random.Generator(np.random.PCG64(derive_seed(seed, slot)))
    return [seeds[index] for index in sorted(rng.choice(len(seeds), size=size, replace=False))]
