"""Gold answers as a verifier takes them, and what the answers of a file say about how they are to be compared.

An answer is a text, a number, or a list of which any member counts. Mathematics is recognised over all answers of a
data set: numbers, LaTeX and formulas, next to few words. What is not recognised is no reason to guess: `doubt` says
what to set, and a run that needs the verifier refuses with it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

GSM8K_MARK = "####"
JSON_ANSWER = re.compile(r'\s*(?:\[\s*"|\{\s*"target"\s*:)')
EMPTY = re.compile(r"\s*(?:\$\s*\$|\\boxed\s*\{\s*\}|\$?\\boxed\{\s*\}\$?)?\s*")
INT64 = 2**63
LONG = 200  # letters; a longer text without \boxed is a worked solution, not an answer
MOST_WORDS = 0.15  # share of words that a set of mathematical answers may hold ("even", "Evelyn")
LABELS, LABELLED = 5, 20  # so few different small numbers in so many rows are classes, not results
SINGLE = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
NUMBER = re.compile(rf"[-+\u2212]?\s?[$€£]?(?:{SINGLE})(?:[eE][-+]?\d+|\s?/\s?\d+)?\s?[%°]?\.?")
QUANTITY = re.compile(rf"[-+\u2212]?[$€£]?(?:{SINGLE})\s*[A-Za-z°µ]+(?:[ /^][A-Za-z0-9]+){{0,2}}")
IDENTIFIER = re.compile(  # dates, times, scores, telephones, versions, and digits that begin with 0
    r"\d+[-/.]\d+[-/.][\d./-]+|\d{1,2}:\d{2}(?::\d{2})?(?:\s?[ap]m)?|\d+-\d+|0\d{3,}", re.IGNORECASE
)
NEUTRAL = re.compile(r"\(?[A-Za-z]\)?\.?|(?:yes|no|true|false|none)\.?", re.IGNORECASE)
LATEX = re.compile(
    r"\\(?:[dtc]?frac|sqrt|pi|theta|alpha|beta|lambda|infty|left|text|mathrm|mathbb|begin|cup|cap|in\b|cdot|times|div|pm"
    r"|leq?|geq?|neq?|log|ln|sin|cos|tan|cot|sec|csc|arc|binom|circ|emptyset|varnothing|boxed|overline|sum|prod|int|%|\$"
    r"|[,!;]|angle|triangle|equiv|mod|pmod|ldots|dots|to|lfloor|lceil|sigma|omega|mu|phi|degree|quad|[()\[\]{}])"
)
FORMULA = re.compile(r"[\sA-Za-z0-9+\-*/^=<>≤≥≠±\u00d7÷·√π∞\u222a∩∈(){}\[\]|.,;:!_'°%\u2212$]+")
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan log ln exp sqrt pi inf infinity oo min max mod".split()  # noqa: SIM905
)
ORDINAL_OR_UNIT = re.compile(r"\d(?:st|nd|rd|th|am|pm|km|cm|mm|kg|lb|oz|ft|hr|hz|gb|mb|mph)\b", re.IGNORECASE)


class Kind(Enum):
    """Kind of one answer."""

    mathematics = "mathematics"
    neutral = "neutral"  # yes, B, 12 hours: stands in both environments
    words = "words"


@dataclass(frozen=True, slots=True)
class Implied:
    """The verifier that a set of answers implies, or why none does. Example: ``Implied("boxed_math")``"""

    verifier: str = ""
    doubt: str = ""


def plain(value: Any) -> tuple[Any, str]:
    """The answer as verifiers take it, and why none can ("" when one can).

    An object with nothing but ``target`` (verl) is what stands there. Integers beyond 64 bit become their digits. An
    empty text, true and false (they may be said in many ways) and any other object are no answers.
    """
    if isinstance(value, Mapping) and {key for key, inner in value.items() if inner is not None} == {"target"}:
        value = value["target"]
    if isinstance(value, list | tuple):
        members = [plain(inner) for inner in value]
        why = next((why for _, why in members if why), "") or ("" if members else "an empty list")
        if any(inner is None or isinstance(inner, list | tuple | Mapping) for inner in value):
            why = "a list that holds lists or nulls"
        if why:
            return value, why
        return (members[0][0] if len(members) == 1 else [member for member, _ in members]), ""
    wide = isinstance(value, int) and not isinstance(value, bool) and not -INT64 <= value < INT64
    if wide or isinstance(value, Decimal):
        return str(value), ""
    known = value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))
    why = "" if known else f"a {type(value).__name__}"
    if isinstance(value, str):
        why = "an empty text" if EMPTY.fullmatch(value) else _object(value)
    if isinstance(value, float) and not math.isfinite(value):
        why = f"the number {value}"
    if isinstance(value, Mapping):
        why = f"an object with {', '.join(map(str, value))}"
    return value, why


def _object(text: str) -> str:
    """Why an answer that is the JSON text of an object is none; "" for any other text and for verl's target."""
    if text.lstrip()[:1] != "{" or JSON_ANSWER.match(text):
        return ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""  # a set, or LaTeX
    return f"the JSON text of an object with {', '.join(value)}" if isinstance(value, dict) else ""


def from_json(answer: Any, lists: bool = True) -> Any:
    """What verl's files write as text: the object of ``{"target": ["34"]}``, and with `lists` the list of ``["34"]``,
    which a verifier of whole texts takes for a text; else as it is."""
    if not isinstance(answer, str) or not JSON_ANSWER.match(answer) or (not lists and answer.lstrip()[0] == "["):
        return answer
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return answer
    read, why = plain(value)
    return answer if why or (isinstance(value, list) and not all(isinstance(item, str) for item in value)) else read


def whole_numbers(answers: Sequence[Any]) -> bool:
    """Whether the floats among the answers are integers that a null beside them turned into floats (pandas does so)."""
    floats = [answer for answer in answers if isinstance(answer, float)]
    return bool(floats) and all(answer.is_integer() and abs(answer) < 2**53 for answer in floats)


def implied(answers: Iterable[Any], texts: Iterable[str] = ()) -> Implied:
    r"""The verifier that all answers of one data set imply together.

    texts: their prompts; where each asks for ``\boxed``, the verifier is boxed_math.
    """
    flat = [str(choice) for answer in answers for choice in (answer if isinstance(answer, list) else [answer])]
    if not flat:
        return Implied()
    if all(GSM8K_MARK in text for text in flat):
        return Implied("gsm8k")
    if all(asked := ["\\boxed" in text for text in texts]) and asked:
        return Implied("boxed_math")
    kinds = [kind(text) for text in flat]
    share = {member: kinds.count(member) / len(kinds) for member in Kind}
    few = len(set(flat)) <= LABELS and len(flat) >= LABELLED and all(re.fullmatch(r"\d(?:\.0)?", text) for text in flat)
    if share[Kind.mathematics] >= 0.5 and share[Kind.words] <= MOST_WORDS and not few:
        return Implied("boxed_math")
    examples = ", ".join(repr(text[:30]) for text in dict.fromkeys(flat[:3]))
    return Implied(
        doubt=f"answers like {examples} do not say how they are to be compared; set data.verifier=exact (the whole "
        "response is the answer), boxed_math (an answer in \\boxed{} or as the prompt asks) or gsm8k (the last number)"
    )


def kind(answer: str) -> Kind:
    """Kind of an answer, judged alone."""
    text = answer.strip()
    if len(text) > LONG and "\\boxed" not in text:
        return Kind.words
    if LATEX.search(text):
        return Kind.mathematics
    text = text.strip("$").strip()
    if IDENTIFIER.fullmatch(text):
        return Kind.mathematics if re.fullmatch(r"0\d{2}", text) else Kind.words
    if NUMBER.fullmatch(text):
        return Kind.mathematics
    if NEUTRAL.fullmatch(text) or (QUANTITY.fullmatch(text) and not _formula(text)):
        return Kind.neutral
    return Kind.mathematics if _formula(text) else Kind.words


def _formula(text: str) -> bool:
    words = re.findall(r"[A-Za-z]{2,}", text)
    # "2ab" and "xy" stand beside digits or operators; a letter in front of a digit is a formula of chemistry, or chess.
    named = all(word.lower() in FUNCTIONS or (re.search(rf"\d{word}\b", text) and len(word) == 2) for word in words)
    telling = re.search(r"\d|[+*/^=<>≤≥≠±\u00d7÷·√π∞\u222a∩∈|]|\S\s-\s\S|^-\S", text)
    odd = re.search(r"(?<![A-Za-z])[A-Za-z]\d|[A-Z][a-z]?\d", text) or ORDINAL_OR_UNIT.search(text)
    return bool(FORMULA.fullmatch(text) and telling and named and not odd and not re.search(r"\d \d", text))
