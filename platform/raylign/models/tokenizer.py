"""The tokenizer of a model folder, without the detour over the model classes where it needs none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(path: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer that AutoTokenizer would choose."""
    file = Path(path) / "tokenizer_config.json"
    settings = orjson.loads(file.read_bytes()) if file.exists() else {}
    if settings.get("tokenizer_class") == "TokenizersBackend" and "auto_map" not in settings:
        from transformers import PreTrainedTokenizerFast  # what AutoTokenizer would choose after 4 s of imports

        return PreTrainedTokenizerFast.from_pretrained(path)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
