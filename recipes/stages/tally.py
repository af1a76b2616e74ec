"""Counts of what a stage made of its samples; they add up over batches, and stand in its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from raylign.recipes.stages.keep import Kept
from raylign.records import Group


@dataclass(slots=True, kw_only=True)
class Tally:
    """Sums. `metrics` gives shares and means of them."""

    prompts: int = 0
    samples: int = 0
    rows: int = 0
    kept: int = 0  # samples that became a row's target
    fallback: int = 0  # prompts that were written with their gold target
    dropped: int = 0  # prompts without a row
    cut: int = 0  # samples that only a length limit kept out
    scored: int = 0  # kept samples that have a score
    score: float = 0.0  # theirs in all
    tokens: int = 0  # of kept samples

    def add(self, other: Tally) -> None:
        """Add another count to this one."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    def keep(self, group: Group, kept: Sequence[Kept], scored: bool) -> None:
        """Count the samples that became targets."""
        for index in (choice.sample for choice in kept if choice.sample is not None):
            self.kept += 1
            self.tokens += group.trajectories[index].response_length
            score = group.scores[index] if scored else None
            if score is not None:
                self.scored, self.score = self.scored + 1, self.score + score

    def metrics(self) -> dict[str, float]:
        """``generate/<name>``: rows and prompts in numbers, kept and cut as shares of the samples, fallback and dropped
        as shares of the prompts, score and length (tokens) as means of what was kept, where they are known.
        """
        metrics = {"rows": float(self.rows), "prompts": float(self.prompts)}
        metrics |= {name: getattr(self, name) / max(1, self.samples) for name in ("kept", "cut")}
        metrics |= {name: getattr(self, name) / max(1, self.prompts) for name in ("fallback", "dropped")}
        if self.scored:
            metrics["score"] = self.score / self.scored
        if self.tokens:
            metrics["length"] = self.tokens / self.kept
        return {f"generate/{name}": value for name, value in metrics.items()}

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)
