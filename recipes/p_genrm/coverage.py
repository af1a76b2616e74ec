"""The number in a judge's reply: a share between 0 and 1, however it is written; no other number is taken for it."""

from __future__ import annotations

import re

NUMBER = r"[-+]?(?:\d+(?:[.,]\d+)?|[.,]\d+)"
SHARE = rf"""(?<![\w.,/+-])(?P<number>{NUMBER})
    (?:\s*(?P<percent>%|per\s?cent\b)|\s*\(?\s*(?:/|\bout\s+of\b|\bof\b)\s*(?P<whole>{NUMBER})(?![\w%/])\s*\)?)?
    (?![\w/]|[.,]\d|\s?[-\u2013]\s?\d)"""
QUOTES = r"[\s*_`\"'$]*"
LABEL = rf"""\b(?:(?:score|rating|coverage|overall)\b{QUOTES}(?:\([^()\n]*\){QUOTES})?(?::|=|\bis\b)?
    |(?:answer|degree|number|result)\b{QUOTES}(?::|=|\bis\b)){QUOTES}(?:\b(?:about|around|roughly)\s+)?"""
FLAGS = re.IGNORECASE | re.VERBOSE
ANYWHERE, LABELLED = re.compile(SHARE, FLAGS), re.compile(LABEL + SHARE, FLAGS)
ALONE = re.compile(rf"(?:(?:the|my|final|overall)\s+)*(?:{LABEL})?{SHARE}", FLAGS)
ITEM = re.compile(r"^\s*(?:[-*#]\s*)?\(?\d+[.)](?=\s)", re.MULTILINE)  # the number of a point in a list
BEFORE, BEHIND = " \t*_`\"'(:=[{$", " \t*_`\"').]}$"


def share_of(reply: str) -> float:
    """The share that a judge gives: alone in the last line (behind a label or not), else labelled, else the only one.

    A whole number within a sentence counts something and is none (3 criteria). Read are decimals (also with a comma),
    percentages, and N/M or N of M; equal ones are one. Raises ValueError on none, on several different ones that
    nothing chooses between, and on what is below 0 or above 1.
    """
    text = ITEM.sub("", reply)
    lines = [kept for line in text.splitlines() if (kept := line.strip().lstrip(BEFORE).rstrip(BEHIND))]
    if lines and (alone := ALONE.fullmatch(lines[-1])):
        return _within(alone)
    known = {_within(share) for share in LABELLED.finditer(text)}
    known = known or {_within(share) for share in ANYWHERE.finditer(text) if not share[0].isdigit()}
    if len(known) != 1:
        raise ValueError(f"{len(known)} different numbers, and nothing chooses one" if known else "no number")
    return known.pop()


def _within(share: re.Match[str]) -> float:
    """The value of a match. Raises ValueError outside of [0, 1]."""
    value = _number(share["number"]) / (100.0 if share["percent"] else 1.0)
    if share["whole"]:
        whole = _number(share["whole"])
        if whole <= 0:
            raise ValueError(f"{share[0]!r} is no share")
        value /= whole
    if not 0 <= value <= 1:
        raise ValueError(f"{share[0]!r} is not between 0 and 1")
    return value


def _number(text: str) -> float:
    return float(text.replace(",", "."))
