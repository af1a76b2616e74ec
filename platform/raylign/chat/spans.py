"""Which characters of a text its token ids wrote, so that a judgement of words reaches the tokens that said them.

Ids are never encoded again: what was sampled may be spelled otherwise than a tokenizer would.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from raylign.chat.template import ChatTemplate
from raylign.records import Float32s, Int32s, Span

Range = tuple[int, int]


def token_ranges(tokenizer: ChatTemplate, ids: Sequence[int] | Int32s) -> list[Range]:
    """[start, end) in ``tokenizer.text_of(ids)`` of what each id wrote.

    Ids that share a character (the bytes of one) have the whole of it each; ids without text (ends of turn, padding)
    have an empty range.
    """
    text = tokenizer.text_of(ids)
    written = [tokenizer.bytes_of(int(number)) for number in ids]
    whole = b"".join(written)
    if whole == b" " + text.encode():  # decoders of SentencePiece vocabularies drop the space before the first word
        first = next(number for number, piece in enumerate(written) if piece)
        written[first], whole = written[first][1:], whole[1:]
    if whole == text.encode():
        return _by_bytes(text, written)
    return _by_prefixes(tokenizer, ids, text)


def on_tokens(ranges: Sequence[Range], spans: Iterable[Span]) -> Float32s:
    """[tokens] sum of the scores of the spans that a token writes a character of."""
    starts, ends = np.array(ranges, np.int64).reshape(-1, 2).T
    scores = np.zeros(len(ranges))
    for span in spans:
        scores[(starts < span.end) & (ends > span.start) & (ends > starts)] += span.score
    return scores.astype(np.float32)


def _by_bytes(text: str, written: Sequence[bytes]) -> list[Range]:
    """From the bytes of each id, which together are the text's."""
    widths = [len(letter.encode()) for letter in text]
    letter_of = np.repeat(np.arange(len(text)), widths)  # of each byte
    ends = np.cumsum([len(piece) for piece in written])
    return [
        (int(letter_of[end - len(piece)]), int(letter_of[end - 1]) + 1) if piece else (_at(letter_of, end),) * 2
        for piece, end in zip(written, ends.tolist(), strict=True)
    ]


def _at(letter_of: np.ndarray[tuple[int], np.dtype[np.int64]], byte: int) -> int:
    return int(letter_of[byte]) if byte < len(letter_of) else (int(letter_of[-1]) + 1 if len(letter_of) else 0)


def _by_prefixes(tokenizer: ChatTemplate, ids: Sequence[int] | Int32s, text: str) -> list[Range]:
    """From the texts of all beginnings of the ids, for decoders that look at neighbours."""
    reached = [_common(tokenizer.text_of(ids[:count]), text) for count in range(len(ids))] + [len(text)]
    reached = np.minimum.accumulate(reached[::-1])[::-1].tolist()  # a later byte may spoil characters before it
    ranges: list[Range] = []
    for number, start in enumerate(reached[:-1]):
        end = reached[number + 1]
        if end <= start and tokenizer.bytes_of(int(ids[number])):  # a part of a character that a later id completes
            end = min(start + 1, len(text))
        ranges.append((start, max(end, start)))
    return ranges


def _common(one: str, other: str) -> int:
    """Length of the beginning that two texts share."""
    if other.startswith(one):
        return len(one)
    return next(place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
