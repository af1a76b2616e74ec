"""A local store of evidence, searched by BM25."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylign.actors.reward.scripts import words_of
from raylign.data.columns import Columns
from raylign.data.files import read_rows
from raylign.errors import DataError
from raylign.records import content_id

K1, B = 1.5, 0.75  # of BM25


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One text that is taken for true. Example: ``Passage(id="who-12", text="At most 4 g of paracetamol a day.")``"""

    id: str
    text: str


class EvidenceStore:
    """Passages, and which of them speak of a text.

    score(q, d) = sum over different words t of q: idf(t) f (K1 + 1) / (f + K1 (1 - B + B |d| / mean |d|)),
    idf(t) = ln(1 + (N - n_t + 1/2) / (n_t + 1/2))
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = list(passages)
        self._counts = [Counter(words_of(passage.text)) for passage in self.passages]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / max(len(self._lengths), 1) or 1.0
        self._where: dict[str, list[int]] = {}
        for number, counts in enumerate(self._counts):
            for word in counts:
                self._where.setdefault(word, []).append(number)

    def best(self, text: str, count: int) -> list[Passage]:
        """At most `count` passages that share a word, the best first, of equal ones the first of the store."""
        scores: dict[int, float] = {}
        for word in dict.fromkeys(words_of(text)):
            having = self._where.get(word, ())
            rarity = math.log(1 + (len(self.passages) - len(having) + 0.5) / (len(having) + 0.5))
            for number in having:
                times = self._counts[number][word]
                length = 1 - B + B * self._lengths[number] / self._mean
                scores[number] = scores.get(number, 0.0) + rarity * times * (K1 + 1) / (times + K1 * length)
        ordered = sorted(scores.items(), key=lambda entry: (-entry[1], entry[0]))
        return [self.passages[number] for number, _ in ordered[:count]]


def read_evidence(path: str) -> EvidenceStore:
    """The store of a file: rows with ``text`` and, if there, ``id``; or rows that a stage wrote, by their target.

    Passages of the same words are one. Raises DataError, naming the place, on a row without a text, and where two
    passages have the same id.
    """
    passages: dict[str, Passage] = {}
    for place, row in read_rows(path):
        text = _text(row, place)
        name = str(row.get("id") or content_id(text))
        if name in passages and passages[name].text != text:
            raise DataError(f"{place}: another passage has the id {name!r}; fix: give each its own, or none")
        passages[name] = Passage(id=name, text=text)
    return EvidenceStore(list({passage.text: passage for passage in passages.values()}.values()))


def _text(row: Mapping[str, Any], place: str) -> str:
    value = Columns(row, place, "", "").at("text") or row.get("target")
    text = value.get("content") if isinstance(value, Mapping) else value
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{place}: no text at text or target, but {str(value)[:60]!r}; fix: a passage a row, in `text`")
    return text
