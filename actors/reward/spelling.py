r"""One spelling for the many ways in which the same mathematical answer is written: ``1\,234``, ``1,\!234``, ``1 234``.

Only spelling: nothing here computes, and no two answers that differ become alike.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from raylign.actors.reward.rewritings import NUMBER, RULES

SIGNS = {
    **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\uff0d", "-"),
    **dict.fromkeys("\u00d7\u2a2f", r"\times "),
    **dict.fromkeys("\u00b7\u22c5\u2217", r"\cdot "),
    **dict.fromkeys("\u00f7\u2044\u2215", "/"),
    **dict.fromkeys("\u00b0\u00ba", r"^\circ "),
    **dict.fromkeys("\u2205\u2300", r"\emptyset "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
    "\u03bc": r"\mu ",
    "\u03a9": r"\Omega ",
    "\u03c0": r"\pi ",
    "\u03b8": r"\theta ",
    "\u03b1": r"\alpha ",
    "\u03b2": r"\beta ",
    "\u221a": r"\sqrt ",
    "\u221e": r"\infty ",
    "\u2264": r"\le ",
    "\u2265": r"\ge ",
    "\u2260": r"\ne ",
    "\u2248": r"\approx ",
    "\u222a": r"\cup ",
    "\u2229": r"\cap ",
    "\u2208": r"\in ",
    "\u00b1": r"\pm ",
    "\u2213": r"\mp ",
    "\u211d": r"\mathbb{R}",
}
RAISED = str.maketrans("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207b", "0123456789-")
SUPERSCRIPT = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207b]+")
VULGAR = re.compile("(\\d?)\\s*([\u00bc-\u00be\u2150-\u215e])")

GROUPED = re.compile(r"(\d{1,3}(?: \d{3})+)\0")
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,\d)")
REPEATING = re.compile(r"(\d*)\.(\d*)\s*\\(?:overline|bar)\s*\{?\s*(\d+)\s*\}?")
SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
SCALED = re.compile(
    rf"(?<![\w.,])({NUMBER})\s*(?:\\text\{{\s*)?({'|'.join(SCALES)})(?![a-zA-Z])(?:\s*\}})?", re.IGNORECASE
)
TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
DEGREES = re.compile(rf"({NUMBER})\s*\\text\{{degrees\}}")
ENDS = " \t\r\n`"
LOOSE = re.compile(r"(?<![A-Za-z0-9}]) +| +(?![A-Za-z0-9])|(?<=\}) +(?![a-zA-Z]{3})")  # \frac{3}{4} cup keeps its space


def spelled(text: str) -> str:
    """The text in one spelling: signs as LaTeX commands, thousands without separators, ``%`` bare, no layout."""
    text = SUPERSCRIPT.sub(lambda match: f"^{{{match.group().translate(RAISED)}}}", text)
    text = VULGAR.sub(_vulgar, text)
    text = "".join(SIGNS.get(letter, letter) for letter in text)
    text = "".join(SIGNS.get(letter, letter) for letter in unicodedata.normalize("NFKC", text))
    text = _trimmed(text)
    for pattern, new in RULES:
        text = pattern.sub(new, text)
    text = GROUPED.sub(lambda match: match.group(1).replace(" ", ""), text)
    text = SCALED.sub(lambda match: f"{match.group(1)}\\cdot 10^{{{SCALES[match.group(2).casefold()]}}}", text)
    if TRIGONOMETRIC.search(text):
        text = DEGREES.sub(r"\\frac{\1\\pi}{180}", text)
    text = REPEATING.sub(_repeating, text)
    return _braced_arguments(_without_thousands(_trimmed(text)))


def squashed(text: str) -> str:
    """A spelled text without the spaces that mean nothing."""
    return LOOSE.sub("", text).strip()


def unmarked(text: str) -> str:
    r"""A squashed text without the ``\text`` around its words, and the spaces next to them."""
    return re.sub(r"(?<!\d) +| +(?!\d)", "", re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text))


def _trimmed(text: str) -> str:
    """Without what stands around an answer: space, markdown, a full stop (``5.`` is 5, ``70.`` too)."""
    text = text.strip(ENDS).removesuffix("\\ ").removesuffix("\\").rstrip(ENDS)  # a LaTeX space at the end
    if text.startswith("**") and text.endswith("**") and len(text) > 4:
        text = text[2:-2].strip(ENDS)
    while text.endswith((".", ",", ";")) and not text.endswith(("\\,", "\\;", "..")):
        text = text[:-1].rstrip(ENDS)
    return text


def _without_thousands(text: str) -> str:
    r"""Commas that group digits left out: ``\frac{1,250}{3}``, ``1,250, 3,500``; those of ``(1,250)`` stay.

    Outside all brackets, and in the braces of a command, a comma in front of three digits groups them; inside brackets
    where other commas, with a space behind, tell the entries apart.
    """
    commas: dict[int, list[int]] = {}
    opened: list[int] = []
    inside: dict[int, int] = {}
    for place, letter in enumerate(text):
        if letter in "([" or (letter == "{" and text[place - 1 : place] == "\\"):
            opened.append(place)
        elif letter in ")]" or (letter == "}" and text[place - 1 : place] == "\\"):
            del opened[-1:]
        elif letter == ",":
            inside[place] = opened[-1] if opened else -1
            commas.setdefault(inside[place], []).append(place)
    grouping = {place for match in THOUSANDS.finditer(text) for place in _commas(match)}
    drop = set()
    for bracket, places in commas.items():
        others = [place for place in places if place not in grouping]
        spaced = bool(others) and all(text[place + 1 : place + 2] == " " for place in others)
        if spaced or (bracket < 0 and not others):
            drop |= set(places) & grouping
    return "".join(letter for place, letter in enumerate(text) if place not in drop)


def _commas(match: re.Match[str]) -> list[int]:
    return [match.start() + place for place, letter in enumerate(match.group()) if letter == ","]


def _vulgar(match: re.Match[str]) -> str:
    value = Fraction(unicodedata.numeric(match.group(2))).limit_denominator(10)
    return f"{match.group(1)}\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _repeating(match: re.Match[str]) -> str:
    whole, fixed, period = match.groups()
    shift = 10 ** len(fixed)
    value = Fraction(int((whole + fixed) or "0"), shift) + Fraction(int(period), shift * (10 ** len(period) - 1))
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _braced_arguments(text: str) -> str:
    r"""``\sqrt (x+1)`` and ``x^(a+b)`` with braces in place of the brackets."""
    for head in (r"\sqrt", "^"):
        start = text.find(head)
        while start >= 0:
            opening = start + len(head)
            while opening < len(text) and text[opening] == " ":
                opening += 1
            if text[opening : opening + 1] == "(":
                end = closing(text, opening)
                if end is not None:
                    text = f"{text[:opening]}{{{text[opening + 1 : end]}}}{text[end + 1 :]}"
            start = text.find(head, start + len(head))
    return text


def closing(text: str, opening: int) -> int | None:
    r"""Where the bracket at `opening` closes; ``(``, ``[``, ``{`` and ``\{`` count alike, so that ``(3,4]`` is one."""
    depth = 0
    for position in range(opening, len(text)):
        if text[position] in "([{":
            depth += 1
        elif text[position] in ")]}":
            depth -= 1
            if depth == 0:
                return position
    return None


def split_top(text: str, separators: tuple[str, ...]) -> list[str]:
    """The parts between separators that stand outside all brackets."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        if depth == 0 and (hit := next((item for item in separators if text.startswith(item, position)), None)):
            parts.append(text[start:position])
            position += len(hit)
            start = position
            continue
        depth += (text[position] in "([{") - (text[position] in ")]}")
        position += 1
    return [part.strip() for part in (*parts, text[start:])]
