"""The bytes that single token ids write."""

from __future__ import annotations

import functools
from typing import Any

REPLACED = "�"


def bytes_of(tokenizer: Any, number: int) -> bytes:
    """Of one id of a `tokenizers.Tokenizer`. A token that is a part of a character has its own bytes alone."""
    raw = tokenizer.id_to_token(number)
    if raw is None:
        return f"<{number}>".encode()
    text: str = tokenizer.decode([number], skip_special_tokens=False)
    if REPLACED in text:
        table = _byte_of_letter()
        if all(letter in table for letter in raw):
            return bytes(table[letter] for letter in raw)
        if raw.startswith("<0x") and raw.endswith(">"):  # byte fallback of SentencePiece vocabularies
            return bytes([int(raw[3:-1], 16)])
    if raw.startswith("▁") and not text.startswith(" "):
        text = f" {text}"  # decoding a text alone drops its leading space
    return text.encode()


@functools.cache
def _byte_of_letter() -> dict[str, int]:
    """The letters by which byte-level BPE writes bytes: printable ones as they are, others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + place): byte for place, byte in enumerate(others)}
