"""Whether the files of a model's folder that make its tokenizer and its chat can be read, and know each other's ids."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raylign.models.headers import LFS

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json")
SPECIAL = ("bos", "eos", "pad")
NUMBERS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens", "max_length")
COPY = "copy it again from the model's origin"
Faults = Iterator[tuple[str, str]]  # what is wrong, what to do


def read_json(file: Path) -> dict[str, Any]:
    """An object of a file. Raises ValueError."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as cause:
        raise ValueError(f"its {file.name} cannot be read ({_pointer(file) or cause})") from None
    if not isinstance(content, dict):
        raise ValueError(f"its {file.name} is no object")
    return content


def holds_tokenizer(folder: Path) -> bool:
    """Whether any file is there that a tokenizer is made of."""
    return any((folder / name).exists() for name in TOKENIZERS)


def vocabulary(folder: Path) -> dict[str, int]:
    """Id of each token that the tokenizer knows, special and added ones too; empty where only loading it would tell.

    Raises ValueError on a file that is broken.
    """
    settings = {name: read_json(folder / name) for name in SETTINGS if (folder / name).exists()}
    known = _known_tokens(folder)
    if not known:
        return {}
    for token, index in settings.get("added_tokens.json", {}).items():
        known.setdefault(token, index)
    for index, token in (settings.get("tokenizer_config.json", {}).get("added_tokens_decoder") or {}).items():
        known.setdefault(text_of(token), int(index))
    return known


def text_of(token: Any) -> str:
    """A special token as files spell it: a text, or an object with its content."""
    return str(token.get("content", "")) if isinstance(token, Mapping) else str(token)


def token_faults(folder: Path, known: Mapping[str, int], rows: int) -> Faults:
    """Tokens of the tokenizer that the model has no row for. rows: of the embedding, 0 when nobody says."""
    if known and rows and max(known.values()) >= rows:
        token = max(known, key=lambda name: known[name])
        why = f"its tokenizer has ids up to {known[token]} ({token!r}), its embedding {rows} rows"
        yield f"does not fit together: {why}", "take the tokenizer that belongs to these weights"
    file = folder / "tokenizer_config.json"
    if not file.exists() or not (folder / "tokenizer.json").exists():  # others know special tokens by their class
        return
    settings = read_json(file)
    for kind in SPECIAL:
        word = text_of(settings.get(f"{kind}_token") or "")
        if word and word not in known:
            why = f"its tokenizer_config.json says {kind}_token={word!r}, which its tokenizer does not know"
            yield why, "name a token that it has, or take the tokenizer that belongs to these weights"


def id_faults(name: str, fields: Mapping[str, Any], rows: int) -> Faults:
    """Special ids outside the vocabulary. name: of the file; rows: how many ids there are, 0 when nobody says."""
    for kind in SPECIAL:
        key = f"{kind}_token_id"
        value = fields.get(key)
        for index in value if isinstance(value, list) else [value]:
            if index is None:
                continue
            if not isinstance(index, int) or isinstance(index, bool):
                yield f"its {name} says {key}={index!r}, which is no id", f"set {key} in {name} to a number"
            elif index < 0 or (rows and index >= rows):
                why = f"its {name} says {key}={index}, outside the vocabulary of {rows or 'any'} tokens"
                yield why, f"set {key} in {name} to the id of the tokenizer's {kind} token, or take it out"


def generation_faults(folder: Path, rows: int) -> Faults:
    """What is wrong with generation_config.json, which names the ends of a turn. Raises ValueError."""
    file = folder / "generation_config.json"
    if not file.exists():
        return
    fields = read_json(file)
    yield from id_faults(file.name, fields, rows)
    for key in NUMBERS:
        value = fields.get(key)
        if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool)):
            yield f"its {file.name} says {key}={value!r}, which is no number", f"correct {key} in {file.name}"


def _known_tokens(folder: Path) -> dict[str, int]:
    """Of the tokenizer's own files. Raises ValueError on a broken one."""
    known: dict[str, int] = {}
    if (folder / "tokenizer.json").exists():
        known = _fast(folder / "tokenizer.json")
    for name in ("tokenizer.model", "spiece.model"):
        if (folder / name).exists():
            pieces = _pieces(folder / name)
            known = known or pieces
    if not known and (folder / "vocab.json").exists():
        known = {str(token): int(index) for token, index in read_json(folder / "vocab.json").items()}
        if not (folder / "merges.txt").exists():
            raise ValueError("holds vocab.json without merges.txt")
    for name in TOKENIZERS:
        if (folder / name).exists() and not (folder / name).stat().st_size:
            raise ValueError(f"its {name} is empty")
    return known


def _fast(file: Path) -> dict[str, int]:
    from tokenizers import Tokenizer

    read_json(file)
    try:
        known = Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
    except Exception as cause:  # the library raises nothing narrower
        raise ValueError(f"its {file.name} is no tokenizer ({str(cause).splitlines()[0]})") from cause
    if not known:
        raise ValueError(f"its {file.name} knows no token")
    return dict(known)


def _pieces(file: Path) -> dict[str, int]:
    """Of a SentencePiece model, or of tiktoken's lines of token and rank. Raises ValueError."""
    content = file.read_bytes()
    if why := _pointer(file):
        raise ValueError(f"its {file.name} is {why}")
    lines = content.split(b"\n", 1)[0].split()
    if len(lines) == 2 and lines[1].isdigit():
        return _ranks(file.name, content)
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(content)
    except (RuntimeError, OSError) as cause:
        raise ValueError(f"its {file.name} is damaged ({str(cause).strip().splitlines()[0]})") from None
    if not processor.GetPieceSize():
        raise ValueError(f"its {file.name} is damaged (it holds no piece)")
    return {processor.IdToPiece(index): index for index in range(processor.GetPieceSize())}


def _ranks(name: str, content: bytes) -> dict[str, int]:
    ranks: dict[str, int] = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True).decode("utf-8", "backslashreplace")] = int(rank)
        except (ValueError, binascii.Error):
            raise ValueError(f"its {name} is damaged (line {number})") from None
    return ranks


def _pointer(file: Path) -> str:
    """Says that a file is only Git LFS's note of one; empty when it is not."""
    with file.open("rb") as stream:
        return "a Git LFS pointer in place of the file: run `git lfs pull`" if stream.read(len(LFS)) == LFS else ""
