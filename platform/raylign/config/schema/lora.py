"""Low-rank adapters: what a stage trains in place of all weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import Enum

from raylign.config.findings import Findings
from raylign.config.schema.base import Section
from raylign.errors import Problem

MOST_RANK = 1024


class AdapterSync(Enum):
    """What rollout engines are sent."""

    merged = "merged"  # all weights, adapters merged into them
    adapter = "adapter"  # the adapters alone, beside weights that stay


@dataclass
class LoraConfig(Section):
    """LoRA (arXiv:2106.09685): y = W x + alpha / rank B A x, in which A and B are trained and W is not.

    rank 0 trains all weights.
    """

    rank: int = 0
    alpha: float = 32.0
    lr: float = 0.0  # of adapters, which take about ten times that of all weights; 0: the stage's
    dropout: float = 0.0  # of what goes into A; of stages that imitate only: ratios need one function
    targets: list[str] = field(default_factory=list)  # names of linear layers; empty: all but output and routers
    sync: AdapterSync = AdapterSync.merged

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings.not_negative(rank=self.rank, lr=self.lr)
        findings.at_most("lr", self.lr, 1.0, "moves every weight by about so much in one step, which no model survives")
        findings.at_most("rank", self.rank, MOST_RANK, "is no low rank")
        given = [item.name for item in fields(self) if getattr(self, item.name) != getattr(LoraConfig(), item.name)]
        why = f"trains all weights, and {', '.join(given)} would be read by nobody"
        findings.expect(self.rank > 0 or not given, "rank", self.rank, why, f"set {key}.rank=16, or leave these out")
        good = math.isfinite(self.alpha) and self.alpha > 0
        findings.expect(good, "alpha", self.alpha, "scales what adapters add", f"set {key}.alpha above 0")
        why = "is the share of inputs that an adapter does not see"
        findings.expect(0 <= self.dropout < 1, "dropout", self.dropout, why, "set it to at least 0 and below 1")
        return findings

    @property
    def sent(self) -> bool:
        """Whether engines are sent adapters beside weights that stay."""
        return self.rank > 0 and self.sync is AdapterSync.adapter


def undropped(key: str, lora: LoraConfig) -> list[Problem]:
    """What is wrong with the adapters of a stage that compares log-probs. key: of the stage."""
    if not lora.rank or not lora.dropout:
        return []
    why = "would make every pass another function, and this stage compares the log-probs of several"
    return [Problem(key=f"{key}.lora.dropout", value=f"{lora.dropout:g}", why=why, fix=f"set {key}.lora.dropout=0")]
