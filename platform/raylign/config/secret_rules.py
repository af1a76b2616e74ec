"""Settings that hold a secret: stored with the run, they would be read by everybody who sees its folder or its page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from raylign.errors import Problem

NAME = re.compile(  # of a setting; `key_file`, `prompt_key` and `max_tokens` hold none
    r"(?:^|[._-])(?:api_?key|(?:access|private|secret)_key|secret|passw(?:or)?d|passphrase|credentials?|authorization"
    r"|bearer|(?:access|api|auth|bearer|hf|hub|refresh|session)_token)$",
    re.IGNORECASE,
)
IN_ADDRESS = re.compile(  # https://user:password@host, https://host/v1?api_key=...
    r"[a-z][a-z0-9+.-]*://(?:[^/\s@]+@|[^\s#]*[?&](?:api_?key|key|sig|signature|(?:\w+_)?(?:secret|token)|password)=[^&\s])",
    re.IGNORECASE,
)


def secret_problems(tree: Mapping[str, object]) -> list[Problem]:
    """What is wrong with the texts of a run's settings; the secrets themselves are not shown."""
    why = "is a secret that the run's folder, page and command line would show"
    fix = {
        True: "name a file or an environment variable, and let the part read it, as judges.NAME.key_file does",
        False: "take it out of the address, e.g. into a file that judges.NAME.key_file names",
    }
    return [
        Problem(key=key, value="(not shown)", why=why, fix=fix[bool(NAME.search(key))])
        for key, text in _texts(tree, "")
        if text and (NAME.search(key) or IN_ADDRESS.match(text))
    ]


def _texts(value: object, key: str) -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every text."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item, key)
