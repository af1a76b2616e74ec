"""Counts of what a stage made of its samples; they add up over batches, and stand in its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from raylign.recipes.stages.keep import Kept
from raylign.records import Group

TOLD = 5  # of what a strategy measured, in words


@dataclass(slots=True, kw_only=True)
class Tally:
    """Sums. `metrics` gives shares and means of them.

    measured: the metrics that the strategy left on samples, by name: [their sum, samples that have one].
    """

    prompts: int = 0
    samples: int = 0
    rows: int = 0
    kept: int = 0  # samples that became a row's target
    fallback: int = 0  # prompts that were written with their gold target
    dropped: int = 0  # prompts without a row
    cut: int = 0  # samples that only a length limit, or a thought without an end, kept out
    scored: int = 0  # kept samples that have a score
    score: float = 0.0  # theirs in all
    tokens: int = 0  # of kept samples
    measured: dict[str, list[float]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add another count to this one."""
        for item in fields(self):
            if item.name != "measured":
                setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        for name, (total, count) in other.measured.items():
            self._measure(name, total, count)

    def keep(self, group: Group, kept: Sequence[Kept], scored: bool) -> None:
        """Count the samples that became targets, and what was measured of all."""
        for trajectory in group.trajectories:
            for name, value in trajectory.metrics.items():
                self._measure(name, value, 1)
        for index in (choice.sample for choice in kept if choice.sample is not None):
            self.kept += 1
            self.tokens += group.trajectories[index].response_length
            score = group.scores[index] if scored else None
            if score is not None:
                self.scored, self.score = self.scored + 1, self.score + score

    def metrics(self) -> dict[str, float]:
        """``generate/<name>``: rows and prompts in numbers, kept and cut as shares of the samples, fallback and dropped
        as shares of the prompts, score and length (tokens) as means of what was kept, where they are known. Beside them
        the means of what the strategy measured.
        """
        metrics = {"rows": float(self.rows), "prompts": float(self.prompts)}
        metrics |= {name: getattr(self, name) / max(1, self.samples) for name in ("kept", "cut")}
        metrics |= {name: getattr(self, name) / max(1, self.prompts) for name in ("fallback", "dropped")}
        if self.scored:
            metrics["score"] = self.score / self.scored
        if self.tokens:
            metrics["length"] = self.tokens / self.kept
        return {f"generate/{name}": value for name, value in metrics.items()} | self.means()

    def means(self) -> dict[str, float]:
        """Of what the strategy measured, over the samples that have it."""
        return {name: total / count for name, (total, count) in sorted(self.measured.items())}

    def __str__(self) -> str:
        """The prompts and their samples, and the largest of what the strategy measured of these."""
        largest = sorted(self.means().items(), key=lambda item: -item[1])[:TOLD]
        measured = "".join(f", {name} {mean:.3g}" for name, mean in largest if mean)
        cut = f"{self.cut} of them cut off by a length limit or within a thought"
        return f"{self.prompts} prompts ({self.samples} samples, {cut}{measured})"

    def _measure(self, name: str, total: float, count: float) -> None:
        known = self.measured.get(name, [0.0, 0])
        self.measured[name] = [known[0] + total, known[1] + count]

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)
