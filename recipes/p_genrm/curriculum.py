"""Stage 3's prompts: the share of hard negatives grows from phase to phase."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.contracts import ROWS, PromptSource, artifact
from raylign.data.cursor import Cursor
from raylign.data.files import read_rows
from raylign.data.identity import identity_of
from raylign.data.pass_rate import passes
from raylign.data.rows import read_row
from raylign.errors import CheckpointError, DataError, Problem
from raylign.recipes.p_genrm.items import of_prompt, refuse_held_out
from raylign.records import Group, Prompt

HARD, EASY = "hard", "easy"


class HardNegatives(PromptSource):
    """Of every phase's prompts the phase's share is hard, each kind epoch by epoch in a seeded order of its own.

    Hard is an item whose mean outcome over the mined chains is at most `threshold`. Without `mined`, one whose gap
    between the two ratings is in the lowest `lowest` of all gaps. An item that nothing is known of is not asked.
    After j prompts of a phase round(j share) of them were hard.
    """

    @dataclass
    class Config:
        """Which are hard, and how the share grows."""

        mined: str = artifact(ROWS)  # chains of the model that the stage starts from, with the reward `outcome`
        outcome: str = "outcome"
        threshold: float = 0.5
        lowest: float = 1 / 3  # share of the gaps
        shares: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75, 1.0])  # of equal phases
        steps: int = 0  # of the stage
        prompts_per_step: int = 0

        def __post_init__(self) -> None:
            if not self.shares or not all(0 <= share <= 1 for share in self.shares):
                raise ValueError(f"shares={self.shares}: name one or more, each between 0 and 1")
            if any(after < before for before, after in pairwise(self.shares)):
                raise ValueError(f"shares={self.shares} fall: a curriculum grows harder; put them in rising order")
            if not 0 <= self.threshold <= 1 or not 0 < self.lowest < 1:
                raise ValueError(f"threshold={self.threshold} must be between 0 and 1, lowest={self.lowest:g} within")

    config: Config

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The phases are those of the stage, all of whose steps ask as many prompts."""
        findings = Findings(key)
        stage = run.parts.get(key.rpartition(".")[0])
        for name in ("steps", "prompts_per_step"):
            value, own = vars(config)[name], vars(stage.config).get(name) if stage else None
            fits = value > 0 if own is None else value == own
            place = key.rpartition(".")[0]
            findings.expect(fits, name, value, "is not that of the stage", f"set {key}.{name}='${{{place}.{name}}}'")
        if stage is not None and vars(stage.config).get("dynamic_sampling"):
            at = f"{key.rpartition('.')[0]}.dynamic_sampling"
            why = f"asks more prompts a step, by which {key} counts its phases"
            findings.append(Problem(key=at, value="true", why=why, fix=f"set {at}=false"))
        return findings

    def __init__(self, config: Config, *, prompts: Sequence[Prompt], seed: int, tokenizer: Any = None) -> None:
        super().__init__(config)  # tokenizer: offered to every source; these prompts come rendered
        refuse_held_out([(prompt.place or prompt.id, of_prompt(prompt)) for prompt in prompts], "the curriculum")
        pools = self._mined(prompts) if config.mined else self._by_gap(prompts)
        self._unknown = len(prompts) - sum(map(len, pools.values()))
        self._pools = pools
        for name, share in ((HARD, max(config.shares)), (EASY, 1 - min(config.shares))):
            if share > 0 and not pools[name]:
                raise DataError(
                    f"none of {len(prompts)} items is {name} ({self._unknown} unknown), and shares={config.shares} ask "
                    f"for some; fix: another threshold ({config.threshold:g}), or shares of what there is"
                )
        self._kind = {prompt.id: name for name, pool in pools.items() for prompt in pool}
        self._cursors = {
            name: Cursor(len(pool), identity_of(prompt.id for prompt in pool), seed, name)
            for name, pool in pools.items()
            if pool
        }
        self._asked, self._hard = [0] * len(config.shares), [0] * len(config.shares)  # by phase
        self._observed: dict[str, float] = {}

    @property
    def phase(self) -> int:
        """Of the next prompt, from 0; the last one goes on."""
        total, phases = self.config.steps * self.config.prompts_per_step, len(self.config.shares)
        return min(sum(self._asked) * phases // max(total, 1), phases - 1)

    def next(self, n: int) -> list[Prompt]:
        """See `PromptSource.next`."""
        return [self._next() for _ in range(n)]

    def _next(self) -> Prompt:
        phase = self.phase
        self._asked[phase] += 1
        hard = int(self._asked[phase] * self.config.shares[phase] + 0.5) > self._hard[phase]
        self._hard[phase] += hard
        name = HARD if hard else EASY
        ((epoch, number),) = self._cursors[name].take(1)
        return replace(self._pools[name][number], visit=epoch)

    def observe(self, groups: Sequence[Group]) -> None:
        """Note how often hard and easy items were judged rightly."""
        rates: dict[str, list[float]] = defaultdict(list)
        for group in groups:
            if passed := passes(group, self.config.outcome):
                rates[self._kind[group.prompt.id]].append(float(np.mean(passed)))
        self._observed = {f"accuracy_{name}": float(np.mean(values)) for name, values in rates.items()}

    def metrics(self) -> dict[str, float]:
        """Shares of the phase of the last prompt: scheduled, and what was realised so far; and how many there are."""
        phase = max((number for number, asked in enumerate(self._asked) if asked), default=0)
        sizes = {name: float(len(pool)) for name, pool in self._pools.items()} | {"unknown": float(self._unknown)}
        realised = {"hard_share": self._hard[phase] / self._asked[phase]} if self._asked[phase] else {}
        return {**self._observed, **sizes, **realised, "phase": float(phase), "scheduled": self.config.shares[phase]}

    def state_dict(self) -> dict[str, Any]:
        """Cursors and counts, and the shares that they are only valid with."""
        return {
            "shares": list(self.config.shares),
            "asked": list(self._asked),
            "hard": list(self._hard),
            "cursors": {name: cursor.state_dict() for name, cursor in self._cursors.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where the state was taken. Raises CheckpointError where shares, items or what is hard have changed."""
        if state["shares"] != list(self.config.shares) or set(state["cursors"]) != set(self._cursors):
            why = f"shares={state['shares']}, now {self.config.shares}"
            raise CheckpointError(f"the checkpoint's curriculum has {why}; restore them, or start a new run")
        for name, cursor in self._cursors.items():
            cursor.load_state_dict(state["cursors"][name])
        self._asked, self._hard = list(state["asked"]), list(state["hard"])

    def _mined(self, prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
        outcomes: dict[str, list[float]] = defaultdict(list)
        for place, raw in read_rows(self.config.mined):
            made = read_row(raw, place).meta.get("generated")
            if not made:
                raise DataError(f"{place}: is no sample of a stage; fix: set source.mined=@STAGE of a Collect")
            if self.config.outcome not in made["rewards"]:
                why = f"has no reward {self.config.outcome!r}, but {', '.join(made['rewards']) or 'none'}"
                raise DataError(f"{place}: {why}; fix: mine with weights: {{{self.config.outcome}: 1}}")
            score = made["rewards"][self.config.outcome]
            if score is not None:  # it could not be measured
                outcomes[made["prompt"].rpartition("#")[0]].append(score)
        known = [prompt for prompt in prompts if prompt.id in outcomes]
        hard = [prompt for prompt in known if np.mean(outcomes[prompt.id]) <= self.config.threshold]
        return _pools(known, hard)

    def _by_gap(self, prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
        gaps = {prompt.id: gap for prompt in prompts if (gap := of_prompt(prompt).gap) is not None}
        if not gaps:
            fix = "mine chains (source.mined=@STAGE), or give chosen_score and rejected_score"
            raise DataError(f"none of {len(prompts)} items has ratings, so that none is known to be hard; fix: {fix}")
        limit = float(np.quantile(list(gaps.values()), self.config.lowest))
        known = [prompt for prompt in prompts if prompt.id in gaps]
        return _pools(known, [prompt for prompt in known if gaps[prompt.id] <= limit])


def _pools(known: Sequence[Prompt], hard: Sequence[Prompt]) -> dict[str, list[Prompt]]:
    names = {prompt.id for prompt in hard}
    return {HARD: list(hard), EASY: [prompt for prompt in known if prompt.id not in names]}
