"""Token-set ratio: how alike two short texts are when order and repetition of words do not matter.

The measure that WebShop's reward takes from a fuzzy-matching library, on [0, 100]. The ratio of two strings is
``200 * LCS / (len(a) + len(b))`` with LCS their longest common subsequence. The token-set ratio is the largest ratio
among the shared words, the shared words plus the rest of a, and the shared words plus the rest of b, each sorted.
"""

from __future__ import annotations

import re


def tokens(text: str) -> list[str]:
    """Lower-case words and numbers of a text."""
    return re.findall(r"[a-z0-9]+", text.lower())


COLOURS = tuple(
    tokens(
        "beige black blue brown burgundy champagne charcoal copper coral cream gold gray green grey ivory khaki "
        "lavender magenta mint multicolor navy nude olive orange pink purple red rose silver tan teal turquoise "
        "white wine yellow"
    )
)


def token_set_ratio(a: str, b: str) -> float:
    """Likeness of two texts, 0 to 100; 100 when the words of one are among those of the other.

    Example: ``token_set_ratio("red rose", "Rose, red and white") == 100.0``
    """
    left, right = set(tokens(a)), set(tokens(b))
    if not left or not right:
        return 0.0
    shared = left & right
    if shared and (left <= right or right <= left):
        return 100.0
    both = " ".join(sorted(shared))
    first = " ".join([both, *sorted(left - shared)] if both else sorted(left))
    second = " ".join([both, *sorted(right - shared)] if both else sorted(right))
    best = ratio(first, second)
    return max(best, ratio(both, first), ratio(both, second)) if both else best


def ratio(a: str, b: str) -> float:
    """``200 * LCS / (len(a) + len(b))``; 100 for two empty strings."""
    return 200.0 * common_subsequence(a, b) / (len(a) + len(b)) if a or b else 100.0


def common_subsequence(a: str, b: str) -> int:
    """Length of the longest common subsequence, by bit-parallel dynamic programming (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for index, letter in enumerate(a):
        places[letter] = places.get(letter, 0) | 1 << index
    full = (1 << len(a)) - 1
    open_places = full
    for letter in b:
        matched = open_places & places.get(letter, 0)
        open_places = ((open_places + matched) | (open_places - matched)) & full
    return len(a) - open_places.bit_count()


def plain_colour(text: str) -> str:
    """The basic colour that a text names (``"dusty rose-01"`` -> ``"rose"``), or the text itself in lower case."""
    lower = text.lower()
    return next((colour for colour in COLOURS if colour in lower), lower)
