"""What a wrong name was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(name: str, known: Sequence[str]) -> str:
    """The known name that looks most like this one, as the second half of a sentence."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not known:
        return "leave it out: there are none"
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def nearest_keys(key: str, known: Sequence[str], siblings: Sequence[str] = ()) -> str:
    """A suggestion: the same in the section that was meant, keys of the same last name (beside it, then anywhere), the
    nearest key beside it, of any last name, the nearest anywhere.
    """
    if section := _meant_section(key, known):
        return f"did you mean {section}?"
    last = key.rsplit(".", 1)[-1]
    for names in (siblings, known):
        if same := [name for name in names if name.rsplit(".", 1)[-1] == last]:
            return f"did you mean {' or '.join(same[:3])}?"
    for names in (siblings, known):
        by_last = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
        close = difflib.get_close_matches(last, list(by_last), n=1, cutoff=0.6)
        if close:
            return f"did you mean {by_last[close[0]]}?"
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.4)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(siblings or known) or 'none'}"


def _meant_section(key: str, known: Sequence[str]) -> str:
    """The key in the section whose name was misspelt; empty where there is no such section, or it is spelt right."""
    first, dot, rest = key.partition(".")
    sections = dict.fromkeys(name.partition(".")[0] for name in known)
    close = difflib.get_close_matches(first, list(sections), n=1, cutoff=0.75)
    if not dot or first in sections or not close:
        return ""
    meant = f"{close[0]}.{rest}"
    return meant if meant in known or rest == "_target_" else ""


def nearest_option(name: str, known: Sequence[str]) -> str:
    """As `nearest_keys`, of a short list: all of it is told too, since what looks alike is rarely what was meant."""
    close = difflib.get_close_matches(name.lower().replace("-", "_"), list(known), n=1, cutoff=0.6)
    every = f"known: {', '.join(known)}"
    return f"did you mean {close[0]}? ({every})" if close else every
