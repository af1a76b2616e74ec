"""Values as overrides: any text survives the way through Hydra's grammar and OmegaConf's interpolations."""

from __future__ import annotations

import re

PLAIN = re.compile(r"[A-Za-z0-9_.-]*/[A-Za-z0-9_./-]*")  # nothing in it means anything to Hydra


def override(key: str, value: object) -> str:
    """``key=value`` whose value is read back as this very text.

    Example: ``override("run.dir", "/data/my proj (v2)")`` is ``run.dir='/data/my proj (v2)'``
    """
    text = re.sub(r"(\\*)\$\{", lambda hit: hit[1] * 2 + "\\${", str(value))
    if PLAIN.fullmatch(text):
        return f"{key}={text}"
    # Within quotes Hydra takes backslashes for what they are, unless a quote follows them.
    text = re.sub(r"(\\*)('|$)", lambda hit: hit[1] * 2 + ("\\'" if hit[2] else ""), text)
    return f"{key}='{text}'"
