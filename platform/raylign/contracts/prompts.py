"""Where prompts and rows come from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raylign.contracts.part import Part
from raylign.contracts.state import StatefulPart
from raylign.records import Group, Prompt


class PromptSource(StatefulPart):
    """Where prompts come from: a data set cursor, a curriculum, a composer. Runs in the controller.

    prompts: those of the data set, in its order; tokenizer: the policy's `ChatTemplate`.
    """

    what = "a prompt source"
    made_with = ("prompts", "seed", "tokenizer")

    @abstractmethod
    def next(self, n: int) -> list[Prompt]:
        """The next n prompts. Wraps around at the end of an epoch (with `visit` + 1)."""

    def observe(self, groups: Sequence[Group]) -> None:
        """Learn from all groups of a step, those that dynamic sampling dropped included (curricula)."""

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """Learn from a held-out evaluation (``eval/score``) of the policy as it is after the last observed step."""

    def metrics(self) -> dict[str, float]:
        """What to log after `observe`; the loop puts ``source/`` before each name."""
        return {}

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything needed to hand out the same prompts after a restart (JSON types only)."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""


class View(Part):
    """What a stage makes of prompts before it asks them: a hint, another system message, a choice among them.

    tokenizer: the policy's `ChatTemplate`, whose ``prompt_ids(messages, tools)`` render a changed prompt;
    `raylign.data.questions.reworded` does, and keeps the question known to judges and strategies.
    """

    what = "a view of prompts"
    made_with = ("tokenizer", "seed")

    @abstractmethod
    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """What is asked in their place. A prompt that keeps its id is sampled with the same seeds as without a view."""

    def left_out(self) -> str:
        """What `prompts` has left out so far, and why, in a line for whoever starts the run; empty: nothing."""
        return ""

    def questions(self, prompts: Sequence[Prompt]) -> tuple[int, int]:
        """Tokens of the shortest and the longest question that a strategy asks about what `prompts` makes of these.

        Where the shortest leaves no room for a reply the stage is refused, as soon as its rows can be read. (0, 0): the
        strategy asks the prompts themselves, whose lengths are settings.
        """
        return 0, 0


class Measure(Part):
    """Numbers of many groups that are no means over trajectories: ratios of sums, best of N, tables."""

    what = "a measure of groups"

    @abstractmethod
    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Numbers by name; a stage logs them as ``<its name for the measure>/<name>``."""

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        """Rows of JSON types for ``measures/<its name>.jsonl`` in the stage's folder; none without rows."""
        return []


class Generator(Part):
    """Makes the data of a run in place of a file: derive from `RowGenerator` or `PairGenerator`."""

    what = "a generator of rows"


class RowGenerator(Generator):
    """Makes rows for prompts."""

    @abstractmethod
    def rows(self, size: int, seed: int) -> Iterable[Any]:
        """`raylign.data.rows.DataRow`s; as many as `size`, or of its own number where that is 0."""

    def left_out(self) -> str:
        """What `rows` has left out of its sources, and why, in a line for whoever starts the run; empty: nothing."""
        return ""


class PairGenerator(Generator):
    """Makes preference pairs."""

    what = "a generator of pairs"

    @abstractmethod
    def pairs(self, size: int, seed: int) -> Iterable[Any]:
        """Mappings with ``prompt``, ``chosen`` and ``rejected``, as the lines of a file have them."""
