"""Numbers as ads and facts write them: 1.5 and 1,5; 1,000, 1.000, 1 000 and 1000."""

from __future__ import annotations

import re
from collections.abc import Iterable

NUMBER = re.compile(r"\d{1,3}(?:[ '\u2019]\d{3})+(?![\d])(?:[.,]\d+)?|\d+(?:[.,]\d+)*")
BY_COMMAS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
BY_POINTS = re.compile(r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?")
BY_SPACES = re.compile(r"\d+(?:[ '\u2019]\d{3})+(?:[.,]\d+)?")


def readings(number: str) -> list[tuple[str, ...]]:
    """The ways to read what `NUMBER` finds, each as one or several plain numbers.

    Points and spaces before three digits may separate thousands or not; commas do, and before any other digits are
    points. Example: ``readings("1.000") == [("1000",), ("1.000",)]``, ``readings("1,5") == [("1.5",)]``
    """
    if BY_COMMAS.fullmatch(number):
        return [(number.replace(",", ""),)]
    if BY_POINTS.fullmatch(number):
        whole = (number.replace(".", "").replace(",", "."),)
        return [whole, (number,)] if number.count(".") == 1 and "," not in number else [whole]
    if BY_SPACES.fullmatch(number):
        parts = re.split(r"[ '\u2019]", number.replace(",", "."))
        return [("".join(parts),), tuple(parts)]
    if re.fullmatch(r"\d+(?:[.,]\d+)?", number):
        return [(number.replace(",", "."),)]
    return [(number,), tuple(re.split("[.,]", number))]  # a date, a version, a list


def stated(text: str) -> frozenset[str]:
    """Every plain number that a text may be read to state."""
    return frozenset(part for hit in NUMBER.finditer(text) for reading in readings(hit[0]) for part in reading)


def is_stated(number: str, known: Iterable[str]) -> bool:
    """Whether all parts of any reading of a number are known."""
    return any(set(reading) <= set(known) for reading in readings(number))
