"""What is injected: patterns or a chain, by the arm of the comparison."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from raylign.errors import DataError
from raylign.recipes.inject_rbp.families import Family, p_right, p_wrong
from raylign.recipes.inject_rbp.patterns import ADMISSIBLE, Float64s, distribution, frequencies, top
from raylign.recipes.inject_rbp.policies import UNIFORM, Softmax, best_of, markov, roll
from raylign.recipes.inject_rbp.table import PatternTable


class Arm(Enum):
    """Where the patterns come from."""

    correct = "correct"  # InjectCorrect: the model's own right answers
    rlopt = "rlopt"  # InjectRLOpt: the reliability-aware softmax policy
    naive = "naive"  # a control: the same policy, every value trusted alike
    incorrect = "incorrect"  # a control: wrong answers
    cross_family = "cross_family"  # a control: right answers to another family of questions
    random = "random"  # a control: any patterns


class Form(Enum):
    """What an injectant is."""

    patterns = "patterns"  # the most frequent patterns with their shares
    chain = "chain"  # one chain, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Injectant:
    """What one question gets: patterns with their shares, or a chain.

    Example: ``Injectant(family="algebra", pooled=False, patterns={"PVC": 0.6, "VPV": 0.4}, chain="")``
    """

    family: str  # whose; empty: of all together
    pooled: bool  # the question's own family has no right trace, or is not known
    patterns: dict[str, float]
    chain: str


class Injector:
    """Makes injectants. top: K of the patterns that are shown; chains: M that a policy rolls."""

    def __init__(self, table: PatternTable, arm: Arm, form: Form, *, top: int, chains: int) -> None:
        self.table, self.arm, self.form, self.top, self.chains = table, arm, form, top, chains
        # the naive arm trusts every value alike: rho = 1
        self.softmax: Softmax = replace(table.softmax, kappa=0.0) if arm is Arm.naive else table.softmax
        self._policies: dict[str, Float64s] = {}  # by family

    def injectant(self, domain: str, seed: int) -> Injectant:
        """Of one question. seed: of what is drawn. Raises DataError where the arm has nothing to draw from."""
        family, rng = self._family(domain), np.random.default_rng(seed)
        patterns = self._patterns(family, rng) if self.form is Form.patterns else {}
        chain = self._chain(family, rng) if self.form is Form.chain else ""
        pooled = family is self.table.whole and bool(self.table.config.by)
        return Injectant(family=family.name, pooled=pooled, patterns=patterns, chain=chain)

    def _family(self, domain: str) -> Family:
        """Whose patterns a question gets."""
        own = self.table.of_question(domain)
        if self.arm is not Arm.cross_family:
            return own
        others = [family for family in self.table.answering if family.name != domain]
        if not others:
            raise DataError(
                f"arm=cross_family: the history has no right trace of another family than {domain or 'its only one'}; "
                "fix: give its rows several families (data.domain_key), or leave the arm out"
            )
        return next((family for family in others if family.name > domain), others[0])

    def _patterns(self, family: Family, rng: np.random.Generator) -> dict[str, float]:
        if self.arm is Arm.random:
            chosen = rng.choice(len(ADMISSIBLE), min(self.top, len(ADMISSIBLE)), replace=False)
            return {ADMISSIBLE[number]: 1 / len(chosen) for number in chosen}
        if self.arm in (Arm.rlopt, Arm.naive):
            rolled = roll(self._policy(family), rng, self.chains, family.longest)
            return self._some(top(distribution(frequencies(rolled)), self.top), family)
        p = p_wrong(family) if self.arm is Arm.incorrect else p_right(family)
        return self._some(top(p, self.top), family)

    def _chain(self, family: Family, rng: np.random.Generator) -> str:
        """The best of what a policy rolls; what is imitated is imitated as it comes."""
        count = self.chains if self.arm in (Arm.rlopt, Arm.naive) else 1
        return best_of(roll(self._policy(family), rng, count, family.longest), family.values, self.softmax.kappa)

    def _policy(self, family: Family) -> Float64s:
        """The table of probabilities that the arm rolls."""
        if family.name not in self._policies:
            self._policies[family.name] = self._made(family)
        return self._policies[family.name]

    def _made(self, family: Family) -> Float64s:
        if self.arm is Arm.random:
            return UNIFORM
        if self.arm in (Arm.rlopt, Arm.naive):
            return family.policy(self.softmax)
        chains = family.wrong if self.arm is Arm.incorrect else family.right
        if not any(chains):
            raise self._nothing(family)
        return markov(chains, family.longest)

    def _some(self, patterns: dict[str, float], family: Family) -> dict[str, float]:
        if not patterns:
            raise self._nothing(family)
        return patterns

    def _nothing(self, family: Family) -> DataError:
        whose = f"family {family.name}" if family.name else "the history"
        return DataError(
            f"arm={self.arm.name}: no trace of {whose} has what it injects; fix: leave the arm out, or give the "
            "history more samples"
        )
