"""Composition-RL's human-checked records (VCMD) and their 200 seeds, against our operator.

What is composed is judged by its text alone; nothing here shares code with the composer.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.report import Claim
from raylign.recipes.composition_rl.compose.chain import Chain, Link, Reason, Rejected, seed_problem
from raylign.recipes.composition_rl.compose.drive import compose_now
from raylign.recipes.composition_rl.compose.operation import assemble, relation_sentence
from raylign.recipes.composition_rl.compose.symbolic import RuleComposer, leaks, link_holds
from raylign.recipes.composition_rl.compose.symbols import clash

NUMBER = re.compile(r"-?\d*(?:\d|\.\d+)(?:/\d+)?")
DECIMAL = re.compile(r"-?\d+(?:\.\d+)?")
# fmt: off
WORDS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12,
}
# fmt: on
PLACEHOLDER = re.compile(r"\{?new_variable2\}?")
FLAGS = (
    "human_is_p1_complete",
    "human_check_var1",
    "human_check_var2",
    "human_check_same_var",
    "human_is_p2_complete",
)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """A JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def record_claims(data: Path) -> list[Claim]:
    """What the records and the seeds in a folder show."""
    rows = rows_of(data / "VCMD.jsonl")
    report, humans = vcmd(rows), float(np.mean([all(row[flag] for flag in FLAGS) for row in rows]))
    share = {name: getattr(report, name) / report.rebuilt for name in ("exact", "sealed", "answers")}
    note = f"{report.rebuilt} of {report.numeric} numeric records rebuilt, dropped {dict(report.dropped)}"
    seeds = real_seeds(rows_of(data / "VCMD_seeds_200.jsonl"))
    made, reasons = compose_real(seeds, 2000, seed=1)
    by_id = {seed.id: seed for seed in seeds}
    valid = float(np.mean([mechanically_valid(chain, by_id) for chain in made]))
    dropped = ", ".join(f"{name} {count / 2000:.3f}" for name, count in reasons.most_common())
    return [
        Claim(name="1/VCMD: Y = X + delta gives var2", value=share["exact"], threshold=1.0, relation="==", note=note),
        Claim(name="1/VCMD: neither value can be read off", value=share["sealed"], threshold=1.0, relation="=="),
        Claim(name="1/VCMD: gt12 = answer of problem 2", value=share["answers"], threshold=1.0, relation="=="),
        Claim(name="1/VCMD: records whose own sentence is wrong", value=report.own_relation_wrong, note="a sign"),
        Claim(name="real/yield on the 200 seeds", value=len(made) / 2000, note=f"2000 random pairs; {dropped}"),
        Claim(
            name="real/validity of what is composed",
            value=valid,
            threshold=humans,
            relation=">=",
            note=f"by text alone; humans found {humans:.3f} of the {len(rows)} VCMD records right in all five flags",
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class VcmdReport:
    """What rebuilding the human-checked records gave."""

    numeric: int
    rebuilt: int
    exact: int  # of rebuilt: the sentence leads from var1 to var2
    sealed: int  # of rebuilt: neither v1 in the definition nor v2 at the replaced place
    answers: int  # of rebuilt: the answer is problem 2's
    dropped: Mapping[str, int]
    own_relation_wrong: int  # records whose own sentence does not lead from var1 to var2


def vcmd(rows: Sequence[Mapping[str, Any]]) -> VcmdReport:
    """Rebuild the composition of every record whose two variables are plain numbers, with our operator and checks."""
    dropped: Counter[str] = Counter()
    numeric = rebuilt = exact = sealed = answers = wrong = 0
    for row in rows:
        base = row.get("base_data") or {}
        plain = DECIMAL.fullmatch(row["var1"]) and DECIMAL.fullmatch(row["var2"])
        if not plain or "modify_p2" not in base:
            continue
        numeric += 1
        wrong += not _own_relation(base["relationship"], row)
        built = _rebuilt(row, base)
        if isinstance(built, Reason):
            dropped[built] += 1
            continue
        text, link, modified, second = built
        rebuilt += 1
        exact += Fraction(link.value1) + Fraction(link.delta) == Fraction(link.value2) and link.relation in text
        there = [match.start() for match in re.finditer(re.escape("{" + link.symbol2 + "}"), modified)]
        sealed += bool(there) and not leaks(link.definition, link.value1, base["data1"]["problem"])
        answers += row["Answer"] == second["final_answer"]
    return VcmdReport(
        numeric=numeric,
        rebuilt=rebuilt,
        exact=exact,
        sealed=sealed,
        answers=answers,
        dropped=dict(dropped),
        own_relation_wrong=wrong,
    )


def _rebuilt(row: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[str, Link, str, Mapping[str, Any]] | Reason:
    one, two = row["symbol_of_var1"], row["symbol_of_var2"]
    delta = Fraction(row["var2"]) - Fraction(row["var1"])
    shown = str(delta) if delta.denominator == 1 else f"{'-' if delta < 0 else ''}" + _frac(abs(delta))
    link = Link(
        symbol1=one,
        value1=row["var1"],
        definition=base["definition_of_var1"].replace("new_variable1", one),
        symbol2=two,
        value2=row["var2"],
        delta=str(delta),
        relation=relation_sentence(two, shown, one),
    )
    original, changed = base["data2"]["problem"], base["modify_p2"]
    forms = [row["var2"], *(word for word, value in WORDS.items() if str(value) == row["var2"])]
    back = [_squeezed(changed.replace("new_variable2", form)) for form in forms]
    if "new_variable2" not in changed or _squeezed(original) not in back:
        return Reason.V2_NOT_RECOVERED
    if leaks(link.definition, link.value1, base["data1"]["problem"]):
        return Reason.LEAK
    if not link_holds(link.relation, link):
        return Reason.LINK_WRONG
    if clash(base["data1"]["problem"], original):
        return Reason.SYMBOL_CLASH
    modified = PLACEHOLDER.sub(lambda _: "{" + two + "}", changed)
    return assemble(base["data1"]["problem"], link.definition, link.relation, modified), link, modified, base["data2"]


def _frac(value: Fraction) -> str:
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _squeezed(text: str) -> str:
    return re.sub(r"[\s{}$]", "", text)


def _own_relation(sentence: str, row: Mapping[str, Any]) -> bool:
    delta = Fraction(row["var2"]) - Fraction(row["var1"])
    match = re.search(r"is\s+(.*?)\s+(less|more) than", sentence)
    if match is None:
        return delta == 0 and "equal to" in sentence
    text = re.sub(r"\\frac\{(-?\d+)\}\{(\d+)\}", r"\1/\2", match[1]).replace("\\(", "").replace("\\)", "").strip("$ ")
    stated = Fraction(text.replace(" ", ""))
    return delta == (stated if match[2] == "more" else -stated)


def real_seeds(rows: Sequence[Mapping[str, Any]]) -> list[Chain]:
    """The seeds of VCMD_seeds_200.jsonl."""
    return [
        seed_problem(row["problem"], row["final_answer"], row["__id__"], "math", solution_answer=row["solution_answer"])
        for row in rows
    ]


def compose_real(seeds: Sequence[Chain], pairs: int, seed: int) -> tuple[list[Chain], Counter[str]]:
    """Chains of random pairs of real seeds, and the reasons for those that were dropped."""
    rng, by = random.Random(seed), RuleComposer(RuleComposer.Config())
    made: list[Chain] = []
    reasons: Counter[str] = Counter()
    for _ in range(pairs):
        first, second = rng.sample(list(seeds), 2)
        outcome = compose_now(by, first, second)
        if isinstance(outcome, Rejected):
            reasons[outcome.reason] += 1
        else:
            made.append(outcome)
    return made, reasons


def mechanically_valid(chain: Chain, seeds: Mapping[str, Chain]) -> bool:
    """The five human questions as far as text can answer them, asked of the finished chain alone.

    Is q1 there whole, with a definition that does not say v1; is q2 there whole but for one place; does putting v2 back
    give q2; does the sentence lead from v1 to v2; do q1 and q2 share no symbol; is the answer q2's.
    """
    link, first, second = chain.links[0], seeds[chain.seeds[0]], seeds[chain.seeds[1]]
    head, _, modified = chain.text.partition(f"\n{link.relation}\n")
    spelled = (link.symbol2, "{" + link.symbol2 + "}", f"${link.symbol2}$")
    places = [match.span() for form in spelled for match in re.finditer(re.escape(form), modified)]
    value = Fraction(_plain(link.value2))
    restored = any(_same_number(modified[:start], modified[end:], second.text, value) for start, end in places)
    whole = head.startswith(first.text) and link.definition in head
    return bool(
        whole
        and restored
        and link_holds(link.relation, link)
        and not leaks(link.definition, link.value1, first.text)
        and not clash(first.text, second.text)
        and chain.answer == second.answer
    )


def _same_number(before: str, after: str, original: str, value: Fraction) -> bool:
    if not (original.startswith(before) and original.endswith(after) and len(before) + len(after) < len(original)):
        return False
    literal = original[len(before) : len(original) - len(after)]
    if literal.lower() in WORDS:
        return value == WORDS[literal.lower()]
    return bool(NUMBER.fullmatch(_plain(literal))) and Fraction(_plain(literal)) == value


def _plain(text: str) -> str:
    return re.sub(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}", r"\1/\2", text)
