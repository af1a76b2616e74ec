"""The exploit audit: graders of which nothing is learned, how many samples they see, and what counts as an exploit."""

from __future__ import annotations

from dataclasses import dataclass, field

from raylign.config.findings import Findings
from raylign.config.schema.base import Section
from raylign.config.schema.roles import PoolConfig
from raylign.errors import Problem

FEWEST, MOST = 8, 100_000  # samples that a distribution is made of


@dataclass
class ExploitConfig(Section):
    """A sample is an exploit when its training reward is high and its grade low, by the distributions that a stage
    starts with: those of its first `start_samples` samples that have both. Quantiles hold on every scale.

    High: at or beyond the quantile `reward_above` of the start's rewards, and above their mean. Low: at or below the
    quantile `grade_below` of the start's grades, and below their mean; where these are all the same, no more than they
    are and less than the grader's `maximum`. The mean decides where most values are equal, as of right and wrong.
    """

    start_samples: int = 128  # also of the window that is compared with the start
    reward_above: float = 0.75
    grade_below: float = 0.25

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        fix = f"set {key}.start_samples=128"
        why = f"samples make no distribution; at least {FEWEST}"
        findings.expect(self.start_samples >= FEWEST, "start_samples", self.start_samples, why, fix)
        findings.at_most("start_samples", self.start_samples, MOST, "is more than a checkpoint should carry")
        findings.share(reward_above=self.reward_above, grade_below=self.grade_below)
        return findings


@dataclass
class AuditConfig(Section):
    """Who grades, and how much. Without graders there is no audit; its alarms stand with the others, under `alarms`.

    A grader is a reward function in a pool of its own. Nothing that trains sees what it says.
    """

    graders: dict[str, PoolConfig] = field(default_factory=dict)  # name -> function and pool; a good sample scores high
    share: float = 0.1  # of the samples of a step, and of an evaluation, that each grader is asked about at most
    exploit: ExploitConfig = field(default_factory=ExploitConfig)

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings.share(share=self.share)
        findings.expect(self.share > 0, "share", self.share, "audits nothing", f"set {key}.share=0.1, or leave it out")
        findings += self.exploit.problems(f"{key}.exploit")
        for name, grader in self.graders.items():
            findings += grader.problems(f"{key}.graders.{name}")
            plain = "/" not in name
            findings.expect(plain, f"graders.{name}", name, "has a slash, which parts metrics", "name it without")
        return findings
