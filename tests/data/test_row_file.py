"""A growing file of rows: what stands behind its checkpoint is gone, what stands before it is proven."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylign.data.row_file import RowFile
from raylign.data.rows import DataRow
from raylign.errors import CheckpointError


def row(number: int) -> DataRow:
    return DataRow(messages=({"role": "user", "content": str(number)},), place="")


async def test_what_a_kill_left_behind_the_checkpoint_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    whole = RowFile(path)
    await whole.append([row(0), row(1)])
    await whole.save(tmp_path)
    state, first = whole.state_dict(), path.read_bytes()
    await whole.append([row(2)])
    both = path.read_bytes()
    for rest in (b"", b'{"raylign": 1', b"x" * 10_000):
        path.write_bytes(first + rest)
        again = RowFile(path)
        await again.restore(tmp_path, state)
        assert again.count == 2
        await again.append([row(2)])
        assert path.read_bytes() == both and again.state_dict() == whole.state_dict()
        path.write_bytes(first + rest)
        await again.restore(tmp_path, state)
        await again.save(tmp_path)
        assert path.read_bytes() == first, "also where no batch follows"
    fresh = RowFile(path)
    await fresh.append([row(5)])
    assert path.read_bytes().count(b"\n") == 1, "without a checkpoint it begins anew"


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[1:])])
async def test_a_file_that_lost_what_the_checkpoint_counts_is_refused(change: object, tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    await file.append([row(0)])
    state = file.state_dict()
    change(file.path)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=r"not as its checkpoint left it \(1 rows in \d+ bytes\); fix"):
        await RowFile(file.path).restore(tmp_path, state)
