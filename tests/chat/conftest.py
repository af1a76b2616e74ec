"""Tokenizers of six families, built once."""

from __future__ import annotations

from typing import Any

import pytest
from chat_families import FAMILIES, build_tokenizer


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By family name."""
    return {family.name: build_tokenizer(family, tmp_path_factory.mktemp(family.name)) for family in FAMILIES}
