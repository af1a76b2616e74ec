"""Texts -> pooled hidden states of a model's last layer, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raylign.config.schema import Pooling
from raylign.errors import LoadError, RequestError
from raylign.records import Float32s

BATCH_TOKENS = 8192  # computed at once, padding included


class HiddenStates:
    """Last hidden states, behind the final norm, of the tokens that the tokenizer makes of a text by itself (special
    ones included), pooled: their mean, or the state of the last of them. Not normalised.

    A text is cut to its first `max_tokens`, or refused; an empty one is the end token. Rows are padded on the right and
    masked, so that neighbours do not matter beyond rounding. Raises LoadError where the folder makes no model.
    """

    def __init__(
        self,
        path: str,
        *,
        pooling: Pooling,
        max_tokens: int,
        dtype: str = "float32",
        device: str = "cpu",
        trust_remote_code: bool = False,
        cuts: bool = True,
    ) -> None:
        import torch
        from transformers import AutoModel

        from raylign.models.tokenizer import load_tokenizer

        self._pooling, self._device, self._cuts = pooling, device, cuts
        try:
            self._tokenizer: Any = load_tokenizer(path, trust_remote_code)
            model = AutoModel.from_pretrained(path, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code)
        except (OSError, ValueError, KeyError) as error:
            raise LoadError(f"{path} makes no model whose hidden states can be read: {error}") from error
        self._model = model.to(device).eval()
        own = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.max_tokens = min(max_tokens, own) if own else max_tokens
        self.cut = 0  # texts that were longer

    def __call__(self, texts: Sequence[str]) -> Float32s:
        """[N, D] Raises RequestError on a text that is too long, where none is cut."""
        import torch

        rows = [self._ids(text) for text in texts]
        pooled: dict[int, Float32s] = {}
        with torch.inference_mode():
            for batch in _batches(rows):
                width = max(len(rows[number]) for number in batch)
                ids = torch.zeros((len(batch), width), dtype=torch.long)
                mask = torch.zeros((len(batch), width), dtype=torch.long)
                for at, number in enumerate(batch):
                    ids[at, : len(rows[number])] = torch.tensor(rows[number])
                    mask[at, : len(rows[number])] = 1
                ids, mask = ids.to(self._device), mask.to(self._device)
                states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
                vectors = _pool(states, mask, self._pooling).cpu().numpy()
                pooled |= dict(zip(batch, vectors, strict=True))
        return np.stack([pooled[number] for number in range(len(rows))]).astype(np.float32)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text)["input_ids"]
        if len(ids) > self.max_tokens and not self._cuts:
            raise RequestError(f"a text has {len(ids)} tokens, and at most {self.max_tokens} are read: {text[:60]!r}")
        self.cut += len(ids) > self.max_tokens
        end = ids[-1:] if ids and ids[-1] in self._tokenizer.all_special_ids else []  # whose state may be what is read
        kept = ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - len(end)], *end]
        return kept or [self._tokenizer.eos_token_id or 0]


def _pool(states: Any, mask: Any, pooling: Pooling) -> Any:
    """[N, D] from [N, T, D] and [N, T]."""
    if pooling is Pooling.last:
        return states[range(len(states)), mask.sum(1) - 1]
    weights = mask.to(states.dtype).unsqueeze(-1)
    return (states * weights).sum(1) / weights.sum(1)


def _batches(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Numbers of rows of about the same length, as many as `BATCH_TOKENS` hold."""
    batches: list[list[int]] = []
    for number in sorted(range(len(rows)), key=lambda number: len(rows[number])):
        if batches and (len(batches[-1]) + 1) * len(rows[number]) <= BATCH_TOKENS:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches
