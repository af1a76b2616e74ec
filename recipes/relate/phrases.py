"""The phrases of an ad: n-grams of the very tokens that were sampled, without markup and names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from raylign.actors.embed.ngrams import Hashes, ngram_hashes
from raylign.chat.spans import on_tokens, token_ranges
from raylign.chat.thoughts import answer_places
from raylign.errors import DataError
from raylign.records import Int32s, Prompt, Span, Trajectory

if TYPE_CHECKING:
    from raylign.chat.template import ChatTemplate

Places: TypeAlias = Sequence[tuple[int, int]]  # of characters
TOKENS = 3  # the kind of these n-grams, apart from those of characters and words


class Phrases(NamedTuple):
    """Those of one text. Example: ``Phrases(hashes=[h("a b"), h("b c")], ends=[1, 2])`` of "a b c" by pairs"""

    hashes: Hashes  # [P]
    ends: NDArray[np.int64]  # [P] the index of each one's last token among the tokens of the text


class PhraseReader:
    """Reads phrases of `n` tokens. free: texts that belong to none; a phrase ends where one of them begins, and at
    tokens without text (ends of turn).
    """

    def __init__(self, tokenizer: ChatTemplate, n: int) -> None:
        self._tokenizer, self._n = tokenizer, n

    def of_trajectory(self, trajectory: Trajectory, free: Sequence[str], thinks: bool = False) -> Phrases:
        """Of all that was sampled but thoughts; no phrase reaches from one call into the next.

        thinks: the prompt has opened a thought.
        """
        parts, start = [Phrases(np.zeros(0, np.uint64), np.zeros(0, np.int64))], 0
        for call in trajectory.calls:
            hashes, ends = self._of_ids(call.token_ids, call.text, free, thoughts_in(call.text, thinks))
            parts.append(Phrases(hashes, ends + start))
            start += len(call.token_ids)
        return Phrases(np.concatenate([part.hashes for part in parts]), np.concatenate([part.ends for part in parts]))

    def of_text(self, text: str, free: Sequence[str]) -> Hashes:
        """Of a text that was not sampled, spelled as the tokenizer spells it."""
        ids = np.array(self._tokenizer.codec.encode(text), np.int32)
        return self._of_ids(ids, self._tokenizer.text_of(ids), free).hashes

    def _of_ids(self, ids: Int32s, text: str, free: Sequence[str], thoughts: Places = ()) -> Phrases:
        ranges = token_ranges(self._tokenizer, ids)
        exempt = [place for words in free for place in _places(text, words)]
        outside = on_tokens(ranges, [Span(start, end, 1.0) for start, end in (*exempt, *thoughts)])
        counts = np.array([start < end for start, end in ranges], bool) & (outside == 0)
        if len(ids) < self._n:
            return Phrases(np.zeros(0, np.uint64), np.zeros(0, np.int64))
        (hashes,) = ngram_hashes(np.asarray(ids).astype(np.uint64), TOKENS, (self._n, self._n))
        whole = sliding_window_view(counts, self._n).all(axis=1)
        return Phrases(hashes[whole], np.flatnonzero(whole) + self._n - 1)


def thoughts_in(text: str, thinks: bool = False) -> Places:
    """[start, end) of all that is no answer, with the white space around it."""
    answers, places, before = answer_places(text, thinks), list[tuple[int, int]](), 0
    if answers == [(0, len(text))]:
        return []
    for start, end in answers:
        said = text[start:end]
        first = start + len(said) - len(said.lstrip())
        places.append((before, first))
        before = max(first, start + len(said.rstrip()))
    return [(start, end) for start, end in (*places, (before, len(text))) if start < end]


def texts_of(prompt: Prompt, column: str) -> list[str]:
    """The texts of a column of the prompt's row; none where no column is named. Raises DataError where it has none."""
    value: Any = prompt.meta.get(column) if column else []
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) for text in value):
        raise DataError(
            f"{prompt.place or prompt.id}: the column {column!r} must be a list of texts, not {str(value)[:60]!r}; "
            "fix: give every row one, if empty, or name no column"
        )
    return list(value)


def product_of(prompt: Prompt, column: str) -> str:
    """Whose ad the prompt asks for; where no column is named, each prompt is a product.

    Raises DataError where the column is absent, or holds neither a text nor a whole number: such products would be one.
    """
    if not column:
        return prompt.id
    if column not in prompt.meta:
        fix = "fix: name another as the setting `product`, or leave that empty"
        raise DataError(f"{prompt.place or prompt.id}: no column {column!r}, which tells products apart; {fix}")
    value: Any = prompt.meta[column]
    if isinstance(value, float | np.number) and float(value).is_integer():
        value = int(value)  # as a table with gaps has it
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        fix = "fix: give every row a text or a whole number"
        raise DataError(f"{prompt.place or prompt.id}: {column} is {value!r:.60}, which names no product; {fix}")
    return str(value)


def _places(text: str, words: str) -> Iterator[tuple[int, int]]:
    """Where words stand in a text, overlapping ones too."""
    start = text.find(words) if words else -1
    while start >= 0:
        yield start, start + len(words)
        start = text.find(words, start + 1)
