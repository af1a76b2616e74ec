r"""Whether two leaves of an answer are worth the same: numbers, expressions, words. ``gold`` is the answer sheet's.

- **Exact against exact** (integers, fractions, roots, pi): equal, or not. Compared as rationals where they are such,
  else to 50 digits, and to 1,000 where these agree; expressions in variables at seven points.
- **A gold decimal** counts for what rounds to it: an irrational or endlessly repeating value from two significant
  digits on (0.33 for 1/3), a longer decimal from three on (3.14 for 3.1415). With fewer it is exact (0.5 is not 0.54).
- **An exact gold that no decimal can write** takes a decimal of six or more significant digits that is rounded
  rightly (1/3 takes 0.333333, not 0.33). Zeros at the end are no digits.
- **Per cent**: ``50\%`` is 1/2; for numbers above 1 the sign is also read as a unit, as answer sheets do (50).
- **What stands behind a number** (see `quantities`) may be left out or added, but is not replaced by something else.
- **Letters** have their case in formulas (n, N); words do not, nor the letters of multiple choice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from raylign.actors.reward import expressions
from raylign.actors.reward.clock import same_time, time_of
from raylign.actors.reward.quantities import contrary, same_sums, scale, without_units
from raylign.actors.reward.spelling import squashed, unmarked

PLAIN = re.compile(r"([+-]?)\s*(\d+(?:\.\d*)?|\.\d+)(?:\s*\\cdot\s*10\^\{([+-]?\d+)\})?")
RATIO = re.compile(r"([+-]?)\s*(?:(\d+)\s*/\s*(\d+)|(\d*)\s*\\frac\{\s*(-?\d+)\s*\}\{\s*(\d+)\s*\})")
BASED = re.compile(r"(\d\w*?)_\{?(\d+)\}?")  # 52_8
CLOCK = re.compile(r"\d{1,2}:[0-5]\d(?!\d)")
WORDS = re.compile(r"[^\W\d_]+(?:[\s,.'-]+[^\W\d_]+)*")
MARKED = re.compile(r"\\text\{[^{}]*[a-zA-Z][^{}]*\}")
CAPITALS = re.compile(r"[A-Z]{2,}")
SINGLE_CASE = re.compile(r"[A-Z]{3,}|[a-z]{3,}")
TOKEN = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+|(?<![^\W\d_]{2})[-+]|[/*<>=^%&|!]|\\[a-zA-Z]+")
CHOICE = re.compile(r"[a-dA-J]")
EXACT_WORDS = re.compile(r"(?!no|NO|No)[a-zA-Z]{2}")  # CO is not Co
OPTION = re.compile(
    r"\(?([A-J])\)?|(?:\(([A-J])\)|(?<!\()([A-J])[.):])\s*(?!.*(?:\([A-J]\)|\b[A-J][.):]))(?P<behind>.+)"
)
DIGITS = 2000  # of a number; a longer one is compared as a text
EXPONENT = 4000
ROUNDED = {True: 2, False: 3}  # significant digits of a gold decimal, by whether the answer has no decimal of its own
STATED = 6  # significant digits of an answer's decimal


@dataclass(frozen=True, slots=True)
class Decimal:
    """A number as it stands. digits: significant ones, zeros at the end left out; step: the worth of its last place."""

    value: Fraction
    digits: int
    step: Fraction


def same_leaf(gold: str, answer: str) -> bool:
    """Whether two spelled texts without outer structure are the same. Raises Unreadable when the gold is no use."""
    gold_text, answer_text = squashed(gold), squashed(answer)
    if gold_text == answer_text or unmarked(gold_text) == unmarked(answer_text):
        return True
    if _same_option(_option(gold), _option(answer)):
        return True
    time = time_of(gold)
    if time is not None:
        return same_time(time, time_of(answer))
    words = _same_words(gold_text, answer_text)
    if words is None:
        words = same_sums(gold, answer)
    if words is not None:
        return words
    return (
        not contrary(gold, answer) and not _other_ratio(gold_text, answer_text) and _same_number(gold_text, answer_text)
    )


def _same_words(gold: str, answer: str) -> bool | None:
    """Whether two texts of words are the same; None where neither is one."""
    if _points(gold, answer):
        return unmarked(gold) == unmarked(answer)
    words = _words(gold), _words(answer)
    if words != (None, None):
        expected, given = (word or _joined(text) for word, text in zip(words, (gold, answer), strict=True))
        return expected == given
    if CAPITALS.fullmatch(unmarked(gold)):
        return False  # points, substances, matrices: AB is not BA
    return True if MARKED.fullmatch(gold) and _tokens(gold) == _tokens(answer) else None


def _points(gold: str, answer: str) -> bool:
    """Whether one of two texts of letters names points or variables (ABC, xyz), whose case counts; TOM is a word."""
    texts = [text for text in map(unmarked, (gold, answer)) if SINGLE_CASE.fullmatch(text)]
    if len(texts) < 2 or texts[0].casefold() != texts[1].casefold():
        return False
    letters = sorted(map(ord, texts[0].casefold()))
    neighbours = letters == list(range(letters[0], letters[0] + len(letters)))
    vowels = set(texts[0].casefold()) & set("aeiouy")
    return len(set(letters)) == len(letters) and (neighbours or (not vowels and texts[0].isupper()))


def _other_ratio(gold: str, answer: str) -> bool:
    """Whether the gold answer is a ratio that is written like a time and the answer is not that: 2:75 is not 1:15."""
    ratio, other = CLOCK.match(gold), CLOCK.match(answer)
    return ratio is not None and (other is None or ratio[0] != other[0])


def _same_number(gold: str, answer: str) -> bool:
    based, again = BASED.fullmatch(gold), BASED.fullmatch(answer)
    if based:
        return based.groups() == again.groups() if again else based.group(1) == answer
    return again is None and _same_amount(gold, answer)


def _same_amount(gold: str, answer: str) -> bool:
    (gold, name), (answer, other) = without_units(gold, answer)
    factor = scale(name, other)
    if factor is None:
        return False
    percents = gold.endswith("%"), answer.endswith("%")
    if (percents[0] and other) or (percents[1] and name):
        return False
    gold, answer = squashed(gold.rstrip("% ")), squashed(answer.rstrip("% "))
    if not gold or not answer:
        return False
    if percents[0] == percents[1]:
        return _same_value(gold, answer, factor)
    large = expressions.above_one(gold)
    if percents[0]:  # 50% <- 1/2, or the bare 50
        return _same_value(gold, answer, Fraction(100)) or (large and _same_value(gold, answer, Fraction(1)))
    return _same_value(gold, answer, Fraction(1, 100)) or (large and _same_value(gold, answer, Fraction(1)))


def _same_value(gold: str, answer: str, factor: Fraction) -> bool:
    """gold = answer * factor."""
    expected, given = decimal(gold), decimal(answer)
    exact, value = rational(gold), rational(answer)
    if exact is not None and value is not None:
        value *= factor
        if exact == value or expected is None:
            return exact == value or (given is not None and _states(given, exact / factor))
        return expected.digits >= ROUNDED[given is None] and _rounds(value, given is None, expected)
    if expressions.same(gold, answer, factor):
        return True
    if expected is not None:
        return expected.digits >= ROUNDED[True] and expressions.near(answer, factor, expected.value, expected.step)
    return given is not None and given.digits >= STATED and expressions.near(gold, 1 / factor, given.value, given.step)


def decimal(text: str) -> Decimal | None:
    r"""A number with a point or a power of ten (``1.50``, ``1.5\cdot 10^{3}``); None for anything else."""
    match = PLAIN.fullmatch(text)
    if match is None or len(text) > DIGITS or not ("." in match.group(2) or match.group(3)):
        return None
    power = int(match.group(3) or 0)
    if abs(power) > EXPONENT:
        return None
    whole, _, places = match.group(2).partition(".")
    unscaled = int((whole + places) or "0")
    scale = Fraction(10) ** (power - len(places))
    shown = str(unscaled).rstrip("0")
    value = unscaled * scale * (-1 if match.group(1) == "-" else 1)
    return Decimal(value, len(shown), scale)


def rational(text: str) -> Fraction | None:
    """An integer, a decimal, a fraction or a mixed number; None for anything else."""
    if len(text) > DIGITS:
        return None
    match = PLAIN.fullmatch(text)
    if match:
        if match.group(3):
            number = decimal(text)
            return None if number is None else number.value
        return Fraction(match.group(2).rstrip(".")) * (-1 if match.group(1) == "-" else 1)
    match = RATIO.fullmatch(text)
    if match is None:
        return None
    sign, top, bottom, whole, over, under = match.groups()
    below = int(bottom or under)
    if below == 0 or (whole and int(over) < 0):
        return None
    value = Fraction(int(top), below) if top else int(whole or 0) + Fraction(int(over), below)
    return -value if sign == "-" else value


def _rounds(answer: Fraction, whole: bool, gold: Decimal) -> bool:
    if whole and (answer.denominator == 1 or _terminates(answer)):
        return False  # a fraction that a decimal can write is exact
    return abs(answer - gold.value) <= gold.step / 2


def _states(given: Decimal, exact: Fraction) -> bool:
    return given.digits >= STATED and not _terminates(exact) and abs(exact - given.value) <= given.step / 2


def _terminates(number: Fraction) -> bool:
    below = number.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1


def _words(text: str) -> str | None:
    r"""The words of a text that is words (``\text{Evelyn}``, ``Evelyn Smith``, ``(C)``), in lower case; else None."""
    inner = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text)
    marked = inner != text
    inner = inner.strip().strip('().:"').strip()
    parts = WORDS.fullmatch(inner) and re.split(r"[\s,.'-]+", inner)
    # ab is a product, x-y a difference
    if not parts or (not marked and min(map(len, parts)) < 3 and text == inner and not _sentence(inner, parts)):
        return None
    return inner if len(inner) == 1 or (EXACT_WORDS.fullmatch(inner) and marked) else "".join(_tokens(inner))


def _sentence(text: str, parts: list[str]) -> bool:
    return "-" not in text and max(map(len, parts)) > 2


def _option(text: str) -> tuple[str, str] | None:
    """The letter of an answer to a multiple-choice question (``(B)``, ``B``, ``(B) 5``, ``B. 5``; not of two) and what
    stands behind it."""
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip()
    if CHOICE.fullmatch(plain) or re.fullmatch(r"\([a-j]\)", plain):
        return plain.strip("()").upper(), ""
    match = OPTION.fullmatch(plain)
    return (next(filter(None, match.groups()[:3])), squashed(match["behind"] or "")) if match else None


def _same_option(gold: tuple[str, str] | None, answer: tuple[str, str] | None) -> bool:
    """The same letter, and nothing different behind it."""
    if gold is None or answer is None:
        return False
    return gold[0] == answer[0] and (gold[1] == answer[1] or "" in (gold[1], answer[1]))


def _joined(text: str) -> str:
    return text if len(text) == 1 else "".join(_tokens(text))


def _tokens(text: str) -> tuple[str, ...]:
    """Words in lower case, numbers and signs of a text; what only separates or ends words is left out."""
    plain = re.sub(r"\\text(?![a-zA-Z])", " ", text).casefold()
    return tuple(TOKEN.findall(plain))
