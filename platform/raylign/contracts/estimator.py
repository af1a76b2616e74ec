"""Small models that a stage fits to rows, and other parts use: classifiers, tables, clusters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from raylign.contracts.part import Part
from raylign.records import Prompt


class PlacedRow(NamedTuple):
    """A row of a file as it stands there. Example: ``PlacedRow("logs.jsonl:3", {"text": "...", "clicks": 2})``"""

    place: str  # file and line, for messages
    columns: Mapping[str, object]


class Estimator(Part):
    """Something that learns from rows in this process, in seconds to minutes. Deterministic, given rows and seed."""

    what = "an estimator"

    @abstractmethod
    def fit(self, rows: Sequence[PlacedRow], seed: int) -> Mapping[str, float]:
        """Learn from all rows; what to log. Runs in a thread.

        Raises DataError, naming the place, on a row that it cannot learn from.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write everything that `load` needs into an empty folder."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Be what wrote the folder. Raises DataError on files that another estimator wrote, or other settings."""


class ScoringEstimator(Estimator):
    """An estimator of what a response is worth: `raylign.actors.reward.fitted.Fitted` makes a reward of it."""

    what = "an estimator that scores responses"

    @abstractmethod
    def scores(self, prompt: Prompt, responses: Sequence[str]) -> Sequence[float]:
        """One finite number for each response."""
