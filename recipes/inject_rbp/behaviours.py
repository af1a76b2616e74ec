"""Reasoning text -> a chain of behaviours, one symbol for each paragraph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from types import MappingProxyType

from raylign.contracts import Part
from raylign.errors import DataError

SYMBOLS = "OPSEVC"
CONCLUSION = "C"
NAMES: Mapping[str, str] = MappingProxyType(
    {
        "O": "Objective",
        "P": "Progression",
        "S": "Summary",
        "E": "Exploration",
        "V": "Verification",
        "C": "Conclusion",
    }
)
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "O": "states what has to be found",
        "P": "carries the current line of thought one step on",
        "S": "collects what is known so far",
        "E": "proposes another hypothesis or strategy",
        "V": "checks a step",
        "C": "gives the final answer",
    }
)
# Known are "Okay," of O, "Now" and "First," of P; the others are inferred. A star stands for the rest of a word.
LEXICON: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "O": ("okay", "the problem asks", "we need to find", "i need to"),
        "P": ("now", "first", "next", "then", "second"),
        "S": ("so far", "in summary", "to summari*", "putting this together", "putting it together", "therefore"),
        "E": ("alternatively", "maybe", "what if", "another way", "perhaps", "hmm"),
        "V": ("wait", "let me check", "let's check", "double-check*", "verif*", "plug back"),
        "C": ("final answer", r"\boxed", "the answer is"),
    }
)
PRIORITY = "CVESOP"
WORDS = 6  # of a paragraph, that the markers are looked for in
TAG = re.compile(r"</?think>")


class Separator(Enum):
    """What stands between two paragraphs."""

    blank = r"\n[^\S\n]*\n\s*"  # one or more blank lines
    newline = r"\s*\n\s*"


class Prefer(Enum):
    """Which of several markers names a paragraph."""

    longest = "longest"  # of equally long ones the first of C, V, E, S, O, P
    priority = "priority"  # the first of C, V, E, S, O, P, however long


class BehaviourParser(Part):
    """Names the behaviour of each paragraph by the marker words among its first six.

    A paragraph without any is a Progression; the first of a text is then an Objective, and the last a Conclusion where
    it holds the text's last box. Whether an answer is right is never looked at, so that chains of right and of wrong
    answers are read alike. Think tags part paragraphs and are no text.
    """

    what = "a parser of behaviours"

    @dataclass
    class Config:
        """How a text is cut, and by which words its parts are told."""

        separator: Separator = Separator.blank
        lexicon: dict[str, list[str]] = field(default_factory=dict)  # symbol -> its markers, in place of `LEXICON`'s
        prefer: Prefer = Prefer.longest

        def __post_init__(self) -> None:
            unknown = [symbol for symbol in self.lexicon if symbol not in NAMES]
            if unknown:
                raise ValueError(f"lexicon: {unknown[0]!r} is no behaviour; choose from {', '.join(SYMBOLS)}")
            empty = [symbol for symbol, words in self.lexicon.items() if not all(word.strip(" *") for word in words)]
            if empty:
                raise ValueError(f"lexicon.{empty[0]} holds an empty marker, which every paragraph has; leave it out")

    config: Config

    def chain(self, text: str) -> str:
        """One symbol for each paragraph, in order; empty for a text without any."""
        parts = self.paragraphs(text)
        symbols = [self._marked(part) for part in parts]
        if parts and not symbols[-1] and "\\boxed" in parts[-1]:
            symbols[-1] = CONCLUSION
        if parts and not symbols[0]:
            symbols[0] = "O"
        return "".join(symbol or "P" for symbol in symbols)

    def paragraphs(self, text: str) -> list[str]:
        """The paragraphs of a text, without the space around them."""
        plain = TAG.sub("\n\n", text.replace("\r\n", "\n"))
        return [part.strip() for part in re.split(self.config.separator.value, plain) if part.strip()]

    def _marked(self, paragraph: str) -> str:
        """The behaviour that the paragraph's first words name; empty where they name none."""
        opening = " ".join(paragraph.split()[:WORDS]).lower().replace("\u2019", "'")
        matches = [(hit[0], symbol) for symbol in PRIORITY for hit in self._markers[symbol].finditer(opening)]
        if not matches:
            return ""
        if self.config.prefer is Prefer.priority:
            return matches[0][1]
        return max(matches, key=lambda match: len(match[0]))[1]  # the first of the longest, so by priority

    @cached_property
    def _markers(self) -> dict[str, re.Pattern[str]]:
        return {symbol: _pattern(self.config.lexicon.get(symbol, LEXICON[symbol])) for symbol in SYMBOLS}


def _pattern(markers: Sequence[str]) -> re.Pattern[str]:
    """Any of the markers as whole words, the longest that fits at a place."""
    if not markers:
        return re.compile(r"(?!)")
    ordered = sorted((" ".join(marker.lower().split()) for marker in markers), key=len, reverse=True)
    words = [re.escape(marker.rstrip("*")) + ("" if marker.endswith("*") else r"(?![^\W\d_])") for marker in ordered]
    return re.compile(rf"(?<![^\W\d_])(?:{'|'.join(words)})")


def checked_chain(chain: str, place: str) -> str:
    """The chain itself. Raises DataError on a symbol that is no behaviour, naming it."""
    strange = next((symbol for symbol in chain if symbol not in NAMES), None)
    if strange is not None:
        raise DataError(
            f"{place}: the chain {chain[:40]!r} holds {strange!r}, which is none of {', '.join(SYMBOLS)}; fix: write "
            "one of these letters for each paragraph, or leave `chain` empty to have the text parsed"
        )
    return chain
