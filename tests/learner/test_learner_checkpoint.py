"""Save, restore, continue: bit for bit what an undisturbed run computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learner_cases import CROSS_ENTROPY, learner_config, make_batch, read_weights, run, values_of

from raylign.actors.learner.spec import LearnerSpec
from raylign.config.schema import OptimConfig, Schedule
from raylign.errors import CheckpointError, LearnerError

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed]

BATCHES = [make_batch(seed=seed) for seed in range(4)]
OPTIM = OptimConfig(lr=1e-3, schedule=Schedule.cosine, warmup_steps=1)


def load(group: Any, folder: Path, stage: int, ranks: int = 2, **fields: Any) -> None:
    config = learner_config(ranks=ranks, zero_stage=stage, optim=OPTIM)
    run(group.load(LearnerSpec(**{"model_path": str(folder), "learner": config, "total_steps": 6, **fields})))


@pytest.mark.parametrize(
    ("stage", "dtype"),
    [(0, "float32"), (1, "float32"), (2, "float32"), (3, "float32"), (1, "bfloat16"), (2, "bfloat16")],
)
def test_a_restored_run_is_bit_equal(
    start_group: Callable[[int], Any], tiny_model: Path, tmp_path: Path, stage: int, dtype: str
) -> None:
    group, folder = start_group(2), str(tmp_path / "checkpoint")
    load(group, tiny_model, stage, dtype=dtype)
    probe = run(group.publish(0)).probe_ids
    for batch in BATCHES[:2]:
        run(group.update(batch, CROSS_ENTROPY))
    run(group.save(folder))
    wanted = [run(group.update(batch, CROSS_ENTROPY)).metrics for batch in BATCHES[2:]]
    weights = read_weights(run(group.publish(4)))
    load(group, tiny_model, stage, dtype=dtype)
    run(group.restore(folder))
    got = [run(group.update(batch, CROSS_ENTROPY)).metrics for batch in BATCHES[2:]]
    for mine, theirs in zip(got, wanted, strict=True):
        assert all(mine[key] == theirs[key] for key in ("loss", "grad_norm", "lr", "learner/optimizer_step"))
    update = run(group.publish(4))
    assert np.array_equal(update.probe_ids, probe), "the gap of a resumed run is of other tokens"
    restored = read_weights(update)
    assert all(np.array_equal(restored[name], weights[name]) for name in weights)
    assert json.loads((tmp_path / "checkpoint" / "learner.json").read_text())["step"] == 2


def test_a_critic_restores_its_head(start_group: Callable[[int], Any], tiny_model: Path, tmp_path: Path) -> None:
    group, folder = start_group(2), str(tmp_path / "critic")
    node = {"_target_": "raylign.objectives.loss.value.ValueLoss", "clip": None}
    load(group, tiny_model, 2, kind="scalar_head")
    run(group.update(BATCHES[0], node))
    run(group.save(folder))
    values = values_of(group, BATCHES[1])
    load(group, tiny_model, 2, kind="scalar_head")
    run(group.restore(folder))
    np.testing.assert_array_equal(values_of(group, BATCHES[1]), values)


@pytest.mark.parametrize(
    ("stage", "dtype", "ranks"),
    [(0, "float32", (2, 1)), (1, "bfloat16", (2, 1)), (2, "float32", (1, 2)), (3, "float32", (2, 1))],
)
def test_another_number_of_ranks_takes_it_up(
    start_group: Callable[[int], Any], tiny_model: Path, tmp_path: Path, stage: int, dtype: str, ranks: tuple[int, int]
) -> None:
    """Weights to the last bit; the optimiser's state shows in the steps that follow."""
    old, new, folder = start_group(ranks[0]), start_group(ranks[1]), str(tmp_path / "checkpoint")
    load(old, tiny_model, stage, ranks[0], dtype=dtype)
    for batch in BATCHES[:2]:
        run(old.update(batch, CROSS_ENTROPY))
    run(old.save(folder))
    saved = read_weights(run(old.publish(2)))
    load(new, tiny_model, stage, ranks[1], dtype=dtype)
    run(new.restore(folder))
    taken = read_weights(run(new.publish(2)))
    assert all(np.array_equal(taken[name], saved[name]) for name in saved)
    for batch in BATCHES[2:]:
        theirs, mine = (run(group.update(batch, CROSS_ENTROPY)).metrics for group in (old, new))
        for key in ("loss", "grad_norm", "lr", "learner/optimizer_step"):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-5 if dtype == "float32" else 5e-3), key


def test_a_checkpoint_of_another_shape_is_refused(
    start_group: Callable[[int], Any], tiny_model: Path, tmp_path: Path
) -> None:
    group, folder = start_group(2), str(tmp_path / "shape")
    load(group, tiny_model, 1)
    run(group.save(folder))
    load(group, tiny_model, 2)
    with pytest.raises(Exception, match=r"does not fit this learner: zero_stage 1 \(now 2\)") as caught:
        run(group.restore(folder))
    assert isinstance(caught.value, LearnerError)


class Bomb:
    """What a hostile file of a random state would hold: unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("content", ["bomb", "half", "absent"])
def test_a_random_state_is_read_and_never_unpickled(content: str, tmp_path: Path) -> None:
    import torch

    from raylign.actors.learner.checkpoint import read_random_state

    path, mark = tmp_path / "random-0.pt", tmp_path / "mark"
    torch.save({"torch": Bomb(mark)} if content == "bomb" else {"torch": torch.get_rng_state()}, path)
    if content == "half":
        path.write_bytes(path.read_bytes()[:100])
    if content == "absent":
        path.unlink()
    with pytest.raises(CheckpointError, match=r"random-0\.pt is no random state of a learner .*fix: resume an earlier"):
        read_random_state(path)
    assert not mark.exists()
