r"""A number and what stands behind it: a unit that is known, or a label (``5 red``, ``5\text{ years old}``).

A response may leave out what stands behind the gold number, or add something where the gold has nothing. Where both
name something it must be the same: a unit of the same dimensions, or a label of the same words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from raylign.actors.reward.units import Unit, unit

# Words of which one behind the gold number and another behind the answer's are not the same.
CONTRARIES = tuple(
    frozenset(words.split())
    for words in (
        "am pm",
        "north south east west",
        "even odd",
        "profit loss gain",
        "bc ad bce ce",
        "increase decrease",
        "clockwise counterclockwise anticlockwise",
        "left right",
        "above below",
        "up down",
        "celsius fahrenheit kelvin",
    )
)
# Words behind a number that change it.
# fmt: off
SCALES = frozenset((
    "hundred", "thousand", "million", "billion", "trillion", "dozen", "dozens", "half", "halves", "third", "thirds",
    "quarter", "quarters", "fourth", "fourths", "fifth", "fifths", "tenth", "tenths", "squared", "cubed", "factorial",
    "plus", "minus", "times", "over", "by", "to", "mod", "modulo", "base", "point", "percent", "not", "is", "or", "and",
    "if", "for", "than", "less", "more", "choose",
))
# fmt: on
EMPTY = frozenset("unit units of the a an in total each old long tall wide high away".split())  # noqa: SIM905
TEMPERATURES = ("celsius", "fahrenheit")
POWER = r"(?:\s*\^\s*(?:\{\s*[+-]?\d+\s*\}|-?\d+))?"
MARK = r"\\text\{[^{}]*[a-zA-Z.][^{}]*\}"
MARKED = re.compile(
    rf"(?P<rest>.*?[\d}})!\w])\s*(?P<unit>(?:\\cdot\s*|/\s*)?{MARK}{POWER}"
    rf"(?:\s*(?:\\cdot\s*|/\s*\(?\s*|\(\s*)?{MARK}{POWER}\s*\)?)*)\s*"
)
FRACTIONAL = re.compile(
    rf"(?P<rest>.*?[\d}})!\w])\s*\\frac\{{\s*(?P<over>{MARK}{POWER})\s*\}}\{{\s*(?P<under>{MARK}{POWER})\s*\}}"
)
BARE = re.compile(
    r"(?P<rest>.*(?:[\d})!]|\\pi))(?P<gap>\s*)(?P<unit>[a-zA-Z][a-zA-Z./ ()]*(?:\^\s*\{?\s*-?\d\s*\}?[a-zA-Z./ ()]*)*)"
)
# 5 feet 3 inches: letters between two numbers that are no product of variables
PARTS = re.compile(r"\d\s*(?:\\text\{[^{}]*[a-zA-Z][^{}]*\}\s*|\s[a-zA-Z][a-zA-Z. ]+\s)(?=\d)")
PART = r"(\d+(?:\.\d+)?)\s*([a-zA-Z][a-zA-Z. ]*)"


@dataclass(frozen=True, slots=True)
class Named:
    """What stands behind a number: its words, and the unit where they name one."""

    words: tuple[str, ...]
    unit: Unit | None


def without_unit(text: str, loose: bool = False) -> tuple[str, Named | None]:
    """The number and what stands behind it. loose: a single letter may be a unit too, after a space."""
    if match := FRACTIONAL.fullmatch(text):
        return match["rest"].strip(), _named(f"{match['over']} / {match['under']}")
    match = MARKED.fullmatch(text)
    if match and not SCALES & set(re.findall("[a-z]+", match["unit"].replace(r"\text", " ").casefold())) - {
        "squared",
        "cubed",
    }:
        return match["rest"].strip(), _named(match["unit"])
    match = BARE.fullmatch(text)
    if match is None:
        return text, None
    name = _named(match["unit"])
    words = re.findall("[a-zA-Z]+", match["unit"])
    if name is None or not words or SCALES & {word.casefold() for word in words} - _raised(name):
        return text, None
    known = name.unit is not None
    if len(match["unit"].strip()) < 2:
        taken = loose and known and bool(match["gap"])
    else:
        leads = len(words[0]) > 2 or (len(words) > 1 and unit(words[0]) is not None)
        taken = known or (bool(match["gap"]) and leads)
    return (match["rest"].strip(), name) if taken else (text, None)


def without_units(gold: str, answer: str) -> tuple[tuple[str, Named | None], tuple[str, Named | None]]:
    """Both numbers with what stands behind them. A single letter of one is a unit where the other names the like."""
    expected, given = without_unit(gold), without_unit(answer, not re.search("[a-zA-Z]", gold))
    names = [name.unit if name is not None else None for _, name in (expected, given)]
    loose = (without_unit(gold, True), given) if names[0] is None else (expected, without_unit(answer, True))
    units = [name.unit if name is not None else None for _, name in loose]
    alike = names.count(None) == 1 and units[0] and units[1] and units[0].dimensions == units[1].dimensions
    return loose if alike else (expected, given)


def scale(gold: Named | None, answer: Named | None) -> Fraction | None:
    """What the answer's number counts in the gold's unit; None where the two name different things."""
    if gold is None or answer is None or not gold.words or not answer.words:
        return Fraction(1)
    if gold.unit is not None and answer.unit is not None:
        kinds = [{name for name, _ in named.unit.dimensions} for named in (gold, answer) if named.unit is not None]
        if {"degree"} in kinds and any(kinds[0] | kinds[1] == {"degree", name} for name in TEMPERATURES):
            return Fraction(1)  # 20 degrees of either scale
        return answer.unit.size / gold.unit.size if answer.unit.dimensions == gold.unit.dimensions else None
    gold_words, answer_words = set(gold.words), set(answer.words)
    return Fraction(1) if gold_words <= answer_words or answer_words <= gold_words else None


def same_sums(gold: str, answer: str) -> bool | None:
    r"""Whether quantities of several parts (``5 feet 3 inches``) are the same; None where neither has several.

    What stands between the numbers is compared as a unit or a label, part by part, or all as one sum.
    """
    if not (PARTS.search(gold) or PARTS.search(answer)):
        return None
    gold_parts, answer_parts = _parts(gold), _parts(answer)
    if not gold_parts or not answer_parts:
        return False
    if len(gold_parts) == len(answer_parts) and all(
        scale(mine, yours) == 1 and number == given
        for (number, mine), (given, yours) in zip(gold_parts, answer_parts, strict=True)
    ):
        return True
    sums = [_sum(parts) for parts in (gold_parts, answer_parts)]
    return sums[0] is not None and sums[0] == sums[1]


def _parts(text: str) -> list[tuple[Fraction, Named]]:
    """Numbers with what stands behind each; empty where a text is not made of these alone."""
    plain = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text).strip()
    if not re.fullmatch(rf"(?:{PART}\s*)+", plain):
        return []
    return [(Fraction(number), _named(words)) for number, words in re.findall(PART, plain)]


def _sum(parts: list[tuple[Fraction, Named]]) -> tuple[tuple[tuple[str, int], ...], Fraction] | None:
    units = [name.unit for _, name in parts]
    if None in units or len({unit.dimensions for unit in units if unit is not None}) != 1:
        return None
    total = sum((number * unit.size for (number, _), unit in zip(parts, units, strict=True) if unit), Fraction(0))
    return next(unit.dimensions for unit in units if unit is not None), total


def label(text: str) -> tuple[str, ...]:
    """The words behind the number of an answer like ``2 red``; empty where there are none, or they name a unit."""
    _, name = without_unit(text)
    return () if name is None or name.unit is not None else name.words


def contrary(gold: str, answer: str) -> bool:
    """Whether the two say opposite things behind a number: ``a.m.`` and ``p.m.``, ``north`` and ``south``."""
    gold_words, answer_words = _said(gold), _said(answer)
    return any(
        gold_words & group and answer_words & group and gold_words & group != answer_words & group
        for group in CONTRARIES
    )


def _said(text: str) -> set[str]:
    return set(re.findall("[a-z]+", re.sub(r"\\text|\.", " ", re.sub(r"([ap])\.\s*m\b", r"\1m", text.casefold()))))


def _raised(name: Named) -> set[str]:
    return {"squared", "cubed"} if name.unit is not None else set()


def _named(text: str) -> Named:
    plain = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text)
    words = re.findall(r"[^\W\d_]+|\d+", re.sub(r"\^|[{}]", "", plain))
    known = unit(plain)
    return Named(tuple(word for word in map(_word, words) if known is not None or word not in EMPTY), known)


def _word(word: str) -> str:
    """In lower case and without a plural's s; a symbol of at most three letters as it is written."""
    if len(word) <= 3:
        return {"sq": "square", "cu": "cubic", "yrs": "year", "The": "the", "Of": "of"}.get(word, word)
    return word.casefold().removesuffix("s")
