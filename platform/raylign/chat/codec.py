"""Text <-> ids of one tokenizer, where spellings of its own special tokens can be kept plain text.

Text from outside is never trusted to be only text: before rendering each spelling of a reserved token is *hidden*
behind a placeholder that carries a random mark; after rendering, the tokens that the template itself wrote are found
first, and only then are the placeholders put back and encoded by a tokenizer that knows no special token at all. A text
without a placeholder takes the ordinary way, so its ids are those of ``apply_chat_template(tokenize=True)``.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from functools import cached_property
from typing import Any

from raylign.chat.pieces import bytes_of
from raylign.errors import RequestError
from raylign.records import Int32s

BREAK = "\n"  # merges with no text in vocabularies that insert spaces


class Before(Enum):
    """The text before the one that is encoded."""

    NOTHING = "nothing"
    TOKEN = "token"  # a special token
    TEXT = "text"


def new_mark() -> str:
    """A word that no text can contain unless it was told: of letters and digits, one for each conversation."""
    return f"mark{secrets.token_hex(8)}"


class Codec:
    """Encodes and decodes for one Hugging Face tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._bytes: dict[int, bytes] = {}
        added: Mapping[int, Any] = tokenizer.added_tokens_decoder
        self.spelling = {number: str(token.content) for number, token in added.items()}  # of every added token
        named = {number for number in tokenizer.all_special_ids if number in self.spelling}
        self.special = frozenset(named | {number for number, token in added.items() if token.special})
        self._open = next(  # stands before a text that goes on, so that it is not taken for the beginning of one
            (token.content for number, token in added.items() if number in self.special and not token.rstrip), ""
        )

    def hide(self, text: str, reserved: Collection[int], mark: str) -> str:
        """The text with every spelling of a reserved token behind a placeholder; half surrogate pairs are U+FFFD."""
        if not text.isascii():
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        spellings = {self.spelling[number]: number for number in reserved if number in self.spelling}
        if not any(spelling in text for spelling in spellings):
            return text
        longest_first = sorted(spellings, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first))
        return re.sub(pattern, lambda hit: f"{mark}n{spellings[hit[0]]}e", text)

    def show(self, text: str, mark: str) -> str:
        """The text with its placeholders put back."""
        return self._back(text, mark, "")

    def encode(self, text: str, mark: str = "", after: Before = Before.NOTHING) -> list[int]:
        """Ids of a text, hidden spellings as plain text. after: what stands before it.

        Raises RequestError where this tokenizer cannot spell a special token in plain text.
        """
        if not text:
            return []
        if after is Before.NOTHING or not self._open:
            return self._encode(text, mark)
        if after is Before.TEXT and self._inserts_space:
            before = self._encode(self._open + BREAK, "")
            ids = self._encode(self._open + BREAK + text, mark)
            if ids[: len(before)] == before:
                return ids[len(before) :]
        return self._encode(self._open + text, mark)[1:]

    def before(self, text: str) -> Before:
        """What a text would be before another one."""
        ids = self._encode(text, "") if text else []
        return (Before.TOKEN if ids[-1] in self.spelling else Before.TEXT) if ids else Before.NOTHING

    @cached_property
    def _inserts_space(self) -> bool:
        """Whether text after a special token begins with a space that nobody wrote, as SentencePiece's does."""
        before = len(self._encode(self._open + BREAK, ""))
        return self._encode(f"{self._open}a", "")[1:] != self._encode(f"{self._open}{BREAK}a", "")[before:]

    def encode_all(self, texts: Sequence[str], mark: str = "") -> list[list[int]]:
        """Ids of several whole texts, in one call where nothing is hidden."""
        plain = [number for number, text in enumerate(texts) if not mark or mark not in text]
        ids: list[list[int]] = [[] for _ in texts]
        if plain:
            rows = self._call([texts[number] for number in plain])["input_ids"]
            for number, row in zip(plain, rows, strict=True):
                ids[number] = list(row)
        for number in set(range(len(texts))) - set(plain):
            ids[number] = self._encode(texts[number], mark)
        return ids

    def decode(self, ids: Sequence[int] | Int32s, without: Collection[int] = ()) -> str:
        """Text of some ids, special tokens included, but those left out."""
        return str(self.tokenizer.decode([int(i) for i in ids if int(i) not in without], skip_special_tokens=False))

    def bytes_of(self, number: int) -> bytes:
        """What one id writes."""
        if number not in self._bytes:
            backend = getattr(self.tokenizer, "backend_tokenizer", None)
            self._bytes[number] = self.decode([number]).encode() if backend is None else bytes_of(backend, number)
        return self._bytes[number]

    def _call(self, text: Any, **options: Any) -> Any:
        return self.tokenizer(text, add_special_tokens=False, padding=False, truncation=False, verbose=False, **options)

    def _encode(self, text: str, mark: str) -> list[int]:
        if not mark or mark not in text:
            return list(self._call(text)["input_ids"])
        encoding = self._call(text, return_offsets_mapping=self._plain is not None)
        ids, spans = list(encoding["input_ids"]), encoding.get("offset_mapping", ())
        result: list[int] = []
        first, begin = 0, 0  # of the run of plain text under way: index among the ids, and character
        for index in range(len(ids) + 1):
            if index < len(ids) and ids[index] not in self.spelling:
                continue
            end = spans[index][0] if index < len(ids) else len(text)
            run = text[begin:end]
            result += self._plainly(run, mark, begin == 0) if mark in run else ids[first:index]
            if index < len(ids):
                result.append(ids[index])
                first, begin = index + 1, spans[index][1]
        return result

    def _plainly(self, run: str, mark: str, start: bool) -> list[int]:
        """Ids of text between two special tokens, placeholders put back, without any special token."""
        if self._plain is None:
            raise RequestError("the text spells a special token, and this tokenizer cannot encode that as plain text")
        core, anchor = self._plain
        for gap in ("", anchor):  # where the vocabulary itself knows the spelling as a whole, it is taken apart
            text = ("" if start else anchor) + self._back(run, mark, gap)
            ids = [i for i in core.encode(text, add_special_tokens=False).ids if i != core.token_to_id(anchor)]
            if not self.special.intersection(ids):
                return list(ids)
        raise RequestError(f"this tokenizer turns a plain text into a special token: {self.show(run, mark)[:80]!r}")

    def _back(self, text: str, mark: str, gap: str) -> str:
        def spelled(hit: re.Match[str]) -> str:
            whole = self.spelling[int(hit[1])]
            return f"{whole[0]}{gap}{whole[1:]}"

        return re.sub(rf"{mark}n(\d+)e", spelled, text) if mark and mark in text else text

    @cached_property
    def _plain(self) -> tuple[Any, str] | None:
        """A tokenizer with the same vocabulary and a single special token, the anchor; None for slow tokenizers."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        from tokenizers import AddedToken, Tokenizer

        core, anchor = Tokenizer(backend.model), f"<|{new_mark()}|>"
        if backend.normalizer is not None:
            core.normalizer = backend.normalizer
        if backend.pre_tokenizer is not None:
            core.pre_tokenizer = backend.pre_tokenizer
        core.add_special_tokens([AddedToken(anchor, normalized=False, special=True)])
        return core, anchor
