"""The data and the tokenizer of the runs of this folder."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import stage_run

from raylign.recipes import stage_order


@pytest.fixture(autouse=True)
def model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_run.MODEL.path = str(tiny_model)
    monkeypatch.setattr(stage_order, "dump_stacks", lambda: [])  # a signal to Ray's processes, and there are none


@pytest.fixture
def data(tmp_path: Path) -> str:
    """The override that names the rows."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in stage_run.ROWS))
    return f"data.path={path}"
