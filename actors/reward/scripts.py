r"""Words in texts of any script: Han, kana, Hangul, Thai and their like write no space where a word begins or ends.

`folded` makes wide and narrow letters alike; `edged` gives ``\b`` a meaning beside letters that no space separates;
`phrase` is a pattern that finds a text as whole words; `words_of` are words, and pairs of letters where none is marked.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

# Thai, Lao; Myanmar; jamo; Khmer; kana, Bopomofo, jamo; Han; Yi; Hangul; Han of other planes. Digits, which some have,
# and signs are none: a letter is matched by this class only.
UNSPACED = (
    r"\u0e01-\u0e4e\u0e81-\u0ecd\u1000-\u103f\u1100-\u11ff\u1780-\u17d3\u3005-\u3007\u3041-\u3096\u3099\u309a"
    r"\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf"
    r"\u4e00-\ua4cf\ua960-\ua97c\uac00-\ud7fb\uf900-\ufaff\U00020000-\U000323af"
)
# Marks above, below and around a letter, which `\w` leaves out: a word goes on behind one.
MARKS = "".join(
    chr(code)
    for code in range(0x300, 0x1B00)
    if unicodedata.category(chr(code)) in ("Mn", "Mc") and not re.match(f"[{UNSPACED}]", chr(code))
)
SPACED = rf"(?:[^\W_{UNSPACED}]|[{MARKS}])"  # a letter, digit or mark of a script that writes spaces
ENDS, CLOSING = r"\u3002\uff01\uff1f\uff1b\uff61", r"\u201d\u2019\u300d\u300f\uff09)\"'"
EDGE = rf"(?:\b|(?<=[{UNSPACED}])(?=\w)|(?<=\w)(?=[{UNSPACED}]))"
SENTENCE = rf"(?<=[.!?;])\s+|\n+|(?<=[{ENDS}])(?![{ENDS}{CLOSING}])\s*"  # where sentences end
RUN = re.compile(rf"([{UNSPACED}]+)|[^\W{UNSPACED}]+")


class Folded(NamedTuple):
    """A text after `folded`, and from where its letters come. Example: ``Folded("No.1", [(0, 1), (0, 1), …])``"""

    text: str
    places: list[tuple[int, int]]  # [start, end) in the original text of what each letter was made of

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Where a part of the folded text that is not empty stands in the original one."""
        return self.places[start][0], self.places[end - 1][1]


def folded(text: str) -> str:
    """NFKC of all but numbers that are no digits: ``Ｎｏ．１`` is ``No.1``, but ``10²`` is not 102, nor ``①`` 1."""
    return text if text.isascii() else with_places(text).text


def with_places(text: str) -> Folded:
    """The folded text with its places: letter by letter, marks with the letter before them."""
    if text.isascii():
        return Folded(text, [(place, place + 1) for place in range(len(text))])
    parts, places, start = list[str](), list[tuple[int, int]](), 0
    for end in range(1, len(text) + 1):
        if end < len(text) and _joins(text[end]):
            continue
        part = text[start:end]
        made = part if unicodedata.category(part[0]) in ("No", "Nl") else unicodedata.normalize("NFKC", part)
        parts.append(made)
        places += [(start, end)] * len(made)
        start = end
    return Folded("".join(parts), places)


def edged(pattern: str) -> str:
    r"""A pattern whose ``\b`` stands beside every letter of a script without spaces, too; in other texts as ever."""
    return re.sub(r"\\(.)", lambda match: EDGE if match[1] == "b" else match[0], pattern, flags=re.DOTALL)


def phrase(text: str) -> str:
    """A pattern of a text that does not begin or end within a word or number of a script that writes spaces."""
    before, after = (f"(?<!{SPACED})" * _spaced(text[0]), f"(?!{SPACED})" * _spaced(text[-1]))
    return f"{before}{re.escape(text)}{after}"


def words_of(text: str) -> list[str]:
    """Words and numbers in lower case; of a run of letters that no space separates, all pairs of neighbours."""
    words = list[str]()
    for match in RUN.finditer(folded(text).lower()):
        run = match[0]
        words += [run[place : place + 2] for place in range(len(run) - 1)] if match[1] and len(run) > 1 else [run]
    return words


def _joins(letter: str) -> bool:
    """Whether a letter becomes one with that before it: a mark, a vowel or end of a Hangul syllable."""
    apart = unicodedata.normalize("NFKD", letter)
    return bool(unicodedata.combining(apart[0])) or "\u1160" <= apart[0] <= "\u11ff"


def _spaced(letter: str) -> bool:
    return re.match(SPACED, letter) is not None
