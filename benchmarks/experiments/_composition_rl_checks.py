"""Composition-RL without a model: exactness of the operator, reason codes, the solve-all arithmetic.

Nothing here shares code with the composer that it judges: chains are solved by reading their text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.experiments._composition_rl_reader import solve_formula, solve_sentence
from benchmarks.experiments._composition_rl_records import record_claims
from benchmarks.experiments.report import Claim
from raylign.recipes.composition_rl.compose.chain import Chain, ChainOrRejected, Reason, Rejected, seed_problem
from raylign.recipes.composition_rl.compose.drive import Composer, compose_now
from raylign.recipes.composition_rl.compose.operation import spc
from raylign.recipes.composition_rl.compose.symbolic import RuleComposer, Style


def composer(style: Style, modulus: int = 0) -> RuleComposer:
    """The rule-based composer in one of its styles."""
    return RuleComposer(RuleComposer.Config(style=style, modulus=modulus))


def chain_of(problems: Sequence[Chain], by: Composer) -> ChainOrRejected:
    """SPC of some problems."""
    return spc(problems, lambda first, second: compose_now(by, first, second))


def arithmetic_seed(rng: random.Random, style: Style) -> Chain:
    """A random problem with a known answer."""
    if style is Style.formula:
        left, op, right = rng.randrange(10), rng.choice("+-*"), rng.randrange(10)
        value = {"+": left + right, "-": left - right, "*": left * right}[op] % 10
        return seed_problem(f"{left}{op}{right}?", str(value))
    left, op, right = rng.randrange(2, 60), rng.choice("+-*"), rng.randrange(61, 99)
    value = {"+": left + right, "-": left - right, "*": left * right}[op]
    return seed_problem(f"What is {left} {op} {right}?", str(value))


def triples(count: int, style: Style, seed: int) -> tuple[int, int]:
    """(chains of depth 3 that evaluate to gt3, chains composed) of random triples of distinct seeds."""
    rng, by = random.Random(seed), composer(style, 10 if style is Style.formula else 0)
    right = made = 0
    while made < count:
        problems = [arithmetic_seed(rng, style) for _ in range(3)]
        chain = chain_of(problems, by)
        if isinstance(chain, Rejected):
            assert chain.reason is Reason.SAME_SEED, chain
            continue
        made += 1
        solved = solve_formula(chain.text) if style is Style.formula else solve_sentence(chain.text)
        right += str(solved) == problems[2].answer and chain.depth == 3 and len(set(chain.seeds)) == 3
    return right, made


def invalid_pairs() -> list[tuple[str, Reason, ChainOrRejected]]:
    """Pairs that must not be composed, with the reason that each must get."""
    by = composer(Style.sentence)
    good, other = seed_problem("What is $3 + 4$?", "7"), seed_problem("Compute $12 + 5$.", "17")
    cases = [
        ("no number in q2", Reason.NO_NUMBER, good, seed_problem("What is the sum of $a$ and $b$?", "a+b")),
        ("no value in gt1", Reason.NO_VALUE, seed_problem("Which sets are open?", "\\varnothing"), other),
        (
            "shared symbol",
            Reason.SYMBOL_CLASH,
            seed_problem("Solve $x + 1 = 3$.", "2"),
            seed_problem("Let $x = 9$.", "9"),
        ),
        (
            "solution ends otherwise",
            Reason.V1_NOT_RECOVERED,
            seed_problem("What is $3 + 4$?", "7", solution_answer="8"),
            other,
        ),
        ("number twice", Reason.AMBIGUOUS_NUMBER, good, seed_problem("Is $5$ more than $5$?", "no")),
        (
            "number in the drawing",
            Reason.NO_NUMBER,
            good,
            seed_problem("How long? [asy]draw((0,0)--(7,1));[/asy]", "7"),
        ),
        ("the same seed", Reason.SAME_SEED, good, good),
    ]
    return [(name, reason, compose_now(by, first, second)) for name, reason, first, second in cases]


# ------------------------------------------------------------------------------------------- solve-all arithmetic


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveAll:
    """A ratio that the source logged, what the formula gives, and the standard error of the former."""

    logged: float
    expected: float
    error: float

    @property
    def gap(self) -> float:
        """|logged - expected| in standard errors."""
        return abs(self.logged - self.expected) / max(self.error, 1e-12)


def solve_all(prompts: int, depth: int, link: Callable[[np.random.Generator, int], np.ndarray], seed: int) -> SolveAll:
    """Simulate 8 rollouts of `prompts` chains over 60 skills; the ratio as the prompt source logs it.

    Skill success ~ Beta(5.52, .48), mean .92; link(rng, n) draws each chain's link success. The formula is conditional
    on what was drawn: mean over prompts of (p1 p2 p_l)^8, with its binomial standard error.
    """
    from benchmarks.experiments._composition_rl_simulation import logged_ratio

    rng = np.random.default_rng(seed)
    skills = rng.beta(0.92 * 6, 0.08 * 6, size=60)
    picked = skills[rng.integers(0, 60, size=(prompts, depth))]
    success = picked.prod(axis=1) * (link(rng, prompts) if depth > 1 else 1.0)
    every = success**8
    error = float(np.sqrt((every * (1 - every)).sum())) / prompts
    return SolveAll(logged=logged_ratio(success, rng), expected=float(every.mean()), error=error)


def claims(data: Path | None) -> list[Claim]:
    """Parts 1 and 2 of the digest, and the real seeds where they are present."""
    claims = []
    for style in Style:
        right, made = triples(1000, style, seed=1)
        name = f"1/chains of depth 3 that evaluate to gt3 ({style.value})"
        claims.append(Claim(name=name, value=right / made, threshold=1.0, relation="==", note=f"{made} random triples"))
    cases = invalid_pairs()
    good = sum(isinstance(outcome, Rejected) and outcome.reason is reason for _, reason, outcome in cases)
    claims.append(Claim(name="1/invalid pairs with the right reason", value=good, threshold=len(cases), relation="=="))
    if data is not None:
        claims += record_claims(data)
    return claims + _arithmetic_claims()


def _arithmetic_claims() -> list[Claim]:
    constant = lambda rng, n: np.full(n, 0.6)  # noqa: E731
    varied = lambda rng, n: rng.beta(0.6, 0.4, size=n)  # noqa: E731
    one, two, varied_two = (
        solve_all(2000, 1, constant, seed=1),
        solve_all(2000, 2, constant, seed=2),
        solve_all(2000, 2, varied, seed=3),
    )
    claims = [
        Claim(
            name=f"2/solve-all, {name}: gap in standard errors",
            value=case.gap,
            threshold=3.0,
            relation="<=",
            note=f"logged {case.logged:.4f}, formula {case.expected:.4f}",
        )
        for name, case in (("depth 1", one), ("depth 2, p_l = .6", two), ("depth 2, p_l of mean .6", varied_two))
    ]
    claims.append(Claim(name="2/solve-all at depth 1", value=one.logged, threshold=(0.5, 0.7), relation="within"))
    note = "p_l ~ Beta(.6, .4); at a constant .6 the formula allows at most .6^8 = .017"
    return [
        *claims,
        Claim(
            name="2/solve-all at depth 2", value=varied_two.logged, threshold=(0.03, 0.2), relation="within", note=note
        ),
    ]
