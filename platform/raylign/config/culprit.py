"""Which field of a part a complaint is about: an error names the setting and its value, never the whole part."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping

LONGEST = 80  # characters of a value in a message


def culprit(complaint: str, settings: Mapping[str, object], defaults: Mapping[str, object]) -> tuple[str, str]:
    """(dotted field, value) that a text is most likely about: one that it names, rather than one that is as it was by
    default; ("", what is not as by default) when it names none.
    """
    values, usual = dict(_leaves(settings)), dict(_leaves(defaults))
    changed = [path for path, value in values.items() if usual.get(path) != value]
    named = {path: hit.start() for path in values if (hit := re.search(_word(path), complaint))}
    chosen = [path for path in named if path in changed] or list(named) or (changed if len(changed) == 1 else [])
    if chosen:
        path = min(chosen, key=lambda path: named.get(path, 0))
        return path, short(values[path])
    return "", short(", ".join(f"{path}={text_of(values[path])}" for path in changed) or "as by default")


def short(value: object) -> str:
    """A value as one line of a message."""
    text = " ".join(text_of(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def text_of(value: object) -> str:
    """A value as YAML has it: the name of an enumeration's member."""
    return str(value.name if isinstance(value, enum.Enum) else value)


def within(tree: object, path: str) -> object:
    """The value at a dotted path; where the path ends early, the deepest value that exists on it."""
    for name in path.split("."):
        if not isinstance(tree, Mapping) or name not in tree:
            break
        tree = tree[name]
    return tree


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value and "_target_" not in value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _word(path: str) -> str:
    """The field's own name as a whole word, not the tail of a longer name."""
    return rf"(?<![\w-]){re.escape(path.rsplit('.', 1)[-1])}(?!\w)"
