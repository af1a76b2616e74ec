"""What shapers and sources remember goes through a checkpoint, small and large, and is lost by no part in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_loop import Observing, Remembering, first_token, make

from raylign.checkpoint import Checkpoint, Checkpoints
from raylign.contracts import RewardShaper
from raylign.data.source import DatasetSource
from raylign.errors import CheckpointError
from raylign.loop import Loop
from raylign.objectives.shaping import WeightedSum


def loop_of(**parts: Any) -> Loop:
    return make(first_token, count=10, **{"shaper": Remembering, "source": Observing, **parts})


async def checkpoint_of(loop: Loop, folder: Path, steps: int = 2) -> Checkpoint:
    for step in range(steps):
        await loop.step(step)
    checkpoints = Checkpoints(folder, keep=1)
    await checkpoints.save(steps, loop.state_dict(), loop.save)
    newest = checkpoints.newest()
    assert newest is not None
    return newest


async def test_arrays_of_shaper_and_source_go_on_where_they_stood(tmp_path: Path) -> None:
    whole, broken, resumed = loop_of(), loop_of(), loop_of()
    results = [await whole.step(step) for step in range(4)]
    checkpoint = await checkpoint_of(broken, tmp_path)
    await resumed.restore(checkpoint.folder, checkpoint.state)
    await resumed.publish()
    for step in (2, 3):
        again = await resumed.step(step)
        assert [group.scores for group in again.groups] == [group.scores for group in results[step].groups]
        assert again.metrics["memory/size"] == results[step].metrics["memory/size"]
    shapers: list[Any] = [whole.parts.shaper, resumed.parts.shaper]
    sources: list[Any] = [whole.parts.source, resumed.parts.source]
    np.testing.assert_array_equal(shapers[0].history, shapers[1].history)
    np.testing.assert_array_equal(sources[0].sizes, sources[1].sizes)
    assert shapers[0].asked == shapers[1].asked == 16 and sources[1].sizes.tolist() == [3] * 16


async def test_a_damaged_array_makes_no_checkpoint(tmp_path: Path) -> None:
    checkpoint = await checkpoint_of(loop_of(), tmp_path)
    path = checkpoint.folder / "shaper" / "history.npy"
    path.write_bytes(path.read_bytes()[:-1])
    assert Checkpoints(tmp_path, keep=1).newest() is None


async def test_parts_that_write_nothing_leave_no_folder(tmp_path: Path) -> None:
    plain = {"shaper": WeightedSum, "source": DatasetSource}
    checkpoint = await checkpoint_of(loop_of(**plain), tmp_path)
    assert [path.name for path in checkpoint.folder.iterdir() if path.is_dir()] == ["learner"]
    await loop_of(**plain).restore(checkpoint.folder, checkpoint.state)


class Forgetful(Remembering):
    """Saves an array and never reads it again."""

    restore = RewardShaper.restore


@pytest.mark.parametrize(
    ("saved", "resumed", "message"),
    [
        ({}, {"shaper": WeightedSum}, r"state \(asked\) of a reward shaper, which WeightedSum does not take up; fix: "),
        ({}, {"shaper": Forgetful}, r"shaper\) of a reward shaper, which Forgetful does not take up; fix: .* restore"),
        ({}, {"source": DatasetSource}, r"source\) of a prompt source, which DatasetSource does not take up"),
        (
            {"source": DatasetSource},
            {},
            r"Observing cannot go on from .*source: .*No such file.*; fix: resume",
        ),
    ],
)
async def test_a_part_that_would_lose_what_another_remembered_is_refused(
    saved: dict[str, Any], resumed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    checkpoint = await checkpoint_of(loop_of(**saved), tmp_path)
    with pytest.raises(CheckpointError, match=message):
        await loop_of(**resumed).restore(checkpoint.folder, checkpoint.state)
