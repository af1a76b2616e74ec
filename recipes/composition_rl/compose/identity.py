"""Names and seeds made of content: the same ones on every machine and in every process."""

from __future__ import annotations

import hashlib

SEPARATOR = "\x1f"


def content_id(*parts: str) -> str:
    """Stable 16-hex-digit identity of some text."""
    return hashlib.sha256(SEPARATOR.join(parts).encode()).hexdigest()[:16]


def derive_seed(seed: int, *path: str | int) -> int:
    """A 63-bit seed for one random draw of several."""
    text = SEPARATOR.join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
