"""The bytes behind token ids, so that a page can show tokens without a tokenizer."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from raylign.run_folder import flatten
from raylign.telemetry.report.folder import Records

REPLACED = "�"


def tokenizers_of(run: Records) -> list[Path]:
    """Candidate paths of the run's tokenizer, best first: its own models, then the model that a stage started from."""
    trained = sorted((run.folder / "stages").glob("*/model/tokenizer.json"))
    started = [event.get("model", "") for event in run.events if event["kind"] == "stage_started"]
    outside = [*reversed(started), str(flatten(run.resolved).get("model.path", ""))]
    return [*trained, *(Path(path).expanduser() / "tokenizer.json" for path in outside if path)]


def vocabulary(ids: Iterable[int], places: Sequence[Path]) -> dict[str, list[Any]] | None:
    """{"ids": [..], "pieces": [base64 of the token's bytes]}; None when no tokenizer of the run can be found.

    A token that is a part of a character keeps its bytes, so that neighbours can be joined.
    """
    place = next((path for path in places if path.is_file()), None)
    wanted = sorted(set(ids))
    if place is None or not wanted:
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(place))
    pieces = [base64.b64encode(_bytes_of(tokenizer, number)).decode() for number in wanted]
    return {"ids": wanted, "pieces": pieces}


def _bytes_of(tokenizer: Any, number: int) -> bytes:
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
