"""The equations of Composition-RL against plain arithmetic, and each pitfall that the digest names."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import sympy
import torch
from benchmarks.experiments._composition_rl_checks import chain_of, composer, invalid_pairs, solve_all, triples
from benchmarks.experiments._composition_rl_reader import solve_formula, solve_sentence
from benchmarks.experiments._composition_rl_records import (
    FLAGS,
    compose_real,
    mechanically_valid,
    real_seeds,
    rows_of,
    vcmd,
)

from raylign.batch import Batch
from raylign.contracts import TokenView
from raylign.objectives.advantage.group import GRPO
from raylign.objectives.loss.base import OldLogprob
from raylign.objectives.loss.policy import ClippedLoss
from raylign.objectives.mismatch import Mismatch, MismatchConfig
from raylign.recipes.composition_rl.compose.chain import Chain, Reason, Rejected, seed_problem
from raylign.recipes.composition_rl.compose.drive import compose_now
from raylign.recipes.composition_rl.compose.operation import side_by_side
from raylign.recipes.composition_rl.compose.surrogate import Slots, SurrogateSet
from raylign.recipes.composition_rl.compose.symbolic import Style, link_holds
from raylign.recipes.composition_rl.compose.values import derive
from raylign.records import Row


@pytest.mark.parametrize("style", list(Style))
def test_chains_of_depth_three_evaluate_to_the_last_answer(style: Style) -> None:
    right, made = triples(1000, style, seed=7)
    assert right == made == 1000


def test_delta_is_v2_minus_v1_and_always_more() -> None:
    chain = compose_now(
        composer(Style.sentence), seed_problem("What is 10 + 3?", "13"), seed_problem("Compute $7 + 3$.", "10")
    )
    assert isinstance(chain, Chain)
    link = chain.links[0]
    assert (link.value1, link.value2, link.delta) == ("13", "3", "-10")
    assert link.relation == f"${link.symbol2}$ is $-10$ more than ${link.symbol1}$." and "less" not in chain.text
    assert chain.text.endswith(f"Compute $7 + {link.symbol2}$.") and chain.answer == "10"


def test_operator_is_not_symmetric() -> None:
    by, one, two = composer(Style.formula, 10), seed_problem("3*4?", "2"), seed_problem("1*5?", "5")
    there, back = compose_now(by, one, two), compose_now(by, two, one)
    assert isinstance(there, Chain) and isinstance(back, Chain)
    assert there.text == "X=3*4;Y=X+9;Y*5?" and there.answer == "5"
    assert back.text == "X=1*5;Y=X+8;Y*4?" and back.answer == "2"
    assert solve_formula(there.text) == 5 and solve_formula(back.text) == 2


def test_spc_replaces_a_number_of_the_next_problems_own_text() -> None:
    problems = [seed_problem(text, answer) for text, answer in (("2+2?", "4"), ("3*4?", "2"), ("1*5?", "5"))]
    chain = chain_of(problems, composer(Style.formula, 10))
    assert isinstance(chain, Chain)
    assert chain.text == "V=2+2;W=V+9;X=W*4;Y=X+9;Y*5?"
    assert len(chain.symbols) == 4 and chain.seeds == tuple(problem.id for problem in problems)


def test_invalid_pairs_get_the_right_reason() -> None:
    for name, reason, outcome in invalid_pairs():
        assert isinstance(outcome, Rejected) and outcome.reason is reason, name


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("13", "13"),
        ("\\frac78", "7/8"),
        ("10,\\!236", "10236"),
        ("\\frac{9\\pi}{2}", "9*pi/2"),
        ("3+ \\frac{\\sqrt{69}}{3}", "3+sqrt(69)/3"),
        ("(60,-88,25,4)", "60"),
        ("\\begin{pmatrix} -3 \\\\ -2 \\\\ 9 \\end{pmatrix}", "9"),
        ("\\left(-\\infty,-\\frac 12\\right)\\cup \\left(-\\frac 12,\\infty\\right)", "-1/2"),
        ("6:4", "3"),
        ("1101_4", "4"),
        ("120^\\circ", "2*pi/3"),
        ("21a^5 - 7a^4 - 16a^2", "21"),
        ("y=2x+3", "5"),
        ("\\text{(E)}", "5"),
        ("20\\%", "20"),
        ("292i", "292"),
    ],
)
def test_value_rules_of_the_paper(answer: str, value: str) -> None:
    derived = derive(answer)
    assert derived is not None and sympy.simplify(derived.value - sympy.sympify(value)) == 0


@pytest.mark.parametrize("answer", ["", "\\varnothing", "(-\\infty,\\infty)", "9^{9^{9^9}}", "\\frac{1}{0}"])
def test_answers_without_a_value(answer: str) -> None:
    assert derive(answer) is None


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("A base-8 number $17_8$ and $x_0 = 4$.", "A base-8 number $17_8$ and $x_0 = Y$."),
        ("Round $563.5097$.", "Round $Y$."),
        ("Is $\\frac{3}{5}$ of $x$ it?", "Is $Y$ of $x$ it?"),
        ("There are four cats.", "There are $Y$ cats."),
        ("Evaluate $\\left\\lfloor\\frac{36}{7}\\right\\rfloor$.", "Evaluate $\\left\\lfloor{Y}\\right\\rfloor$."),
        ("Let $5$ and $2$ and $5$ be.", "Let $5$ and $Y$ and $5$ be."),
        ("At 5:30 he has \\$7.50 and $3x^2$.", "At 5:30 he has \\$7.50 and $Yx^2$."),
        ("Take $12$. [asy]draw((12,0)--(4,4));[/asy] And $30$.", None),
    ],
)
def test_places_of_the_variable(text: str, changed: str | None) -> None:
    chain = compose_now(composer(Style.sentence), seed_problem("How many?", "2"), seed_problem(text, "1"))
    if changed is None:
        assert isinstance(chain, Chain) and "And $Y$." in chain.text, "a value that the drawing shows is left alone"
        return
    assert isinstance(chain, Chain) and chain.text.endswith(changed), chain


def test_irrational_links_are_exact_and_read_back() -> None:
    chain = compose_now(
        composer(Style.sentence), seed_problem("Area?", "2\\pi"), seed_problem("Compute $7 + 3$.", "10")
    )
    assert isinstance(chain, Chain)
    assert chain.links[0].delta == "3 - 2 \\pi" and link_holds(chain.links[0].relation, chain.links[0])


def test_last_slot_is_never_subsampled_and_every_candidate_is_used() -> None:
    seeds = [seed_problem(f"{n}+1?", str(n + 1)) for n in range(100)]
    for depth, slots, size in ((2, Slots.product, 2000), (3, Slots.zip, 2000), (3, Slots.product, 40000)):
        chosen = SurrogateSet(seeds, seeds, depth, candidates=20, slots=slots, seed=3)
        assert len(chosen) == size
        chains = [chosen.chain(number) for number in range(size)]
        assert set(Counter(chain[-1].id for chain in chains).values()) == {size // 100}
        assert all(len({seed.id for seed in chain}) == depth for chain in chains)
        for slot in range(depth - 1):
            used = {chain[slot].id for chain in chains if chain[-1].id == seeds[5].id}
            assert len(used) == 20, "every member of D_k is used"
        assert chosen.chain(17) == SurrogateSet(seeds, seeds, depth, candidates=20, slots=slots, seed=3).chain(17)


@pytest.mark.parametrize(("depth", "link"), [(2, 0.9)])
def test_solve_all_ratio_follows_the_product_of_successes(depth: int, link: float) -> None:
    simulation = solve_all(2000, depth, lambda rng, n: np.full(n, link), seed=depth)
    assert simulation.gap <= 3


def test_side_by_side_keeps_the_answer_and_no_link() -> None:
    plain = side_by_side([seed_problem("3*4?", "2"), seed_problem("1*5?", "5")])
    assert (plain.text, plain.answer, plain.links, plain.depth) == ("3*4?\n1*5?", "5", (), 2)


def test_objective_is_the_papers_equation() -> None:
    """GRPO advantages, token mean over the batch, clip, truncated importance weights, in float64 by hand."""
    rng = np.random.default_rng(0)
    lengths, passed = rng.integers(2, 6, size=8), np.array([1, 0, 0, 1, 1, 1, 0, 1], float)
    total = int(lengths.sum())
    new, old, sampler = -rng.random((3, total))
    rows = []
    for index, length in enumerate(lengths):
        start = int(lengths[:index].sum())
        span = slice(start, start + length)
        zeros = np.zeros(length, np.float32)
        rows.append(
            Row(
                group=0,
                prompt_length=0,
                token_ids=np.zeros(length, np.int32),
                loss_mask=np.ones(length, bool),
                sampler_logprob=sampler[span].astype(np.float32),
                policy_version=np.zeros(length, np.int32),
                advantage=zeros,
                weight=np.ones(length, np.float32),
                extras={"old_logprob": old[span].astype(np.float32)},
            )
        )
    batch, _ = GRPO(GRPO.Config()).assign(Batch.from_rows(rows), passed.astype(np.float32))
    config = ClippedLoss.Config(
        old_logprob=OldLogprob.recompute, mismatch=MismatchConfig(mode=Mismatch.truncate, high=2.0)
    )
    loss = ClippedLoss(config)
    batch = loss.prepare(batch)
    streams = {name: torch.tensor(np.asarray(value)) for name, value in batch.streams.items()}
    segment = torch.tensor(np.repeat(np.arange(8), lengths))
    view = TokenView(
        streams=streams,
        segment=segment,
        rows=8,
        logprob=torch.tensor(new, dtype=torch.float64),
        entropy=torch.zeros(total),
    )
    policy_loss = float(loss.terms(view).components["policy"])
    advantage = np.repeat((passed - passed.mean()) / (passed.std(ddof=1) + 1e-6), lengths)
    ratio, weight = np.exp(new - old), np.minimum(np.exp(old - sampler), 2.0)
    terms = weight * np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
    assert policy_loss == pytest.approx(-terms.sum() / total, rel=1e-5)


def test_human_checked_records_are_rebuilt_exactly(shared_data) -> None:
    rows = rows_of(shared_data("composition/VCMD.jsonl"))
    report = vcmd(rows)
    assert report.rebuilt >= 0.8 * report.numeric
    assert report.exact == report.sealed == report.answers == report.rebuilt
    assert report.own_relation_wrong == 1, "one record's own sentence has the wrong sign"


def test_real_seeds_compose_at_least_as_validly_as_the_human_checked_set(shared_data) -> None:
    seeds = real_seeds(rows_of(shared_data("composition/VCMD_seeds_200.jsonl")))
    rows = rows_of(shared_data("composition/VCMD.jsonl"))
    humans = np.mean([all(row[flag] for flag in FLAGS) for row in rows])
    made, reasons = compose_real(seeds, 300, seed=2)
    by_id = {seed.id: seed for seed in seeds}
    assert np.mean([mechanically_valid(chain, by_id) for chain in made]) >= humans
    assert len(made) >= 200 and set(reasons) <= {Reason.AMBIGUOUS_NUMBER, Reason.NO_NUMBER, Reason.SYMBOL_CLASH}


def test_sentence_solver_is_independent_of_the_composer() -> None:
    text = (
        "What is 12 + 70? Define $V$ as the answer to this problem.\n$W$ is $-79$ more than $V$.\nWhat is $W$ * 61? "
        "Define $X$ as the answer to this problem.\n$Y$ is $-180$ more than $X$.\nWhat is $Y$ - 90?"
    )
    assert solve_sentence(text) == Fraction(-87)
