"""What became of the rows of a file of pairs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReport:
    """Counts of rows kept and dropped, printed at the start of a run."""

    source: str
    rows: int
    unpaired: int  # the two conversations differ before the last answer; dropped
    same: int  # both answers are equal, or the pair was seen before; dropped
    too_long: int  # truncation=drop
    cut: int  # pairs of which a prompt or an answer was cut
    leaked: int  # training pairs whose prompt is held out too; dropped
    train: int
    holdout: int
    ties: int  # where neither answer is better
    ties_kept: bool  # whether they are among the pairs; else dropped
    longest: int  # tokens of prompt and answer
    whole: int  # tokens of the longest pair before it was cut

    def __str__(self) -> str:
        return (
            f"{self.source}: {self.rows} rows, dropped {self.unpaired} without a common prompt, {self.same} equal or "
            f"repeated, {self.too_long} too long, {self.leaked} with a held-out prompt{self._dropped_ties}; {self.cut} "
            f"cut; {self.train} train, {self.holdout} held out{self._kept_ties}, longest {self.longest} tokens"
            f"{self._mostly_cut}"
        )

    @property
    def _dropped_ties(self) -> str:
        return f", {self.ties} ties" if self.ties and not self.ties_kept else ""

    @property
    def _kept_ties(self) -> str:
        return f" ({self.ties} of the rows are ties)" if self.ties_kept else ""

    @property
    def _mostly_cut(self) -> str:
        """What to do where cut pairs are no exception."""
        if 2 * self.cut <= self.rows:
            return ""
        return (
            f"\nwarning: {self.cut} of {self.rows} pairs are cut, the longest has {self.whole} tokens: raise "
            "max_tokens of the stage, data.max_prompt_tokens and model.max_context"
        )
