"""A checkpoint knows its data: every stage that learns goes on with the same rows only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raylign.batch import Batch
from raylign.data.identity import identity_of_rows
from raylign.data.pairs import Pair, PairSet, rows_of_pairs
from raylign.data.score_cache import ScoreCache
from raylign.errors import CheckpointError
from raylign.payloads import put
from raylign.recipes.stages.preference import reference_identity
from raylign.recipes.stages.training import Training
from raylign.records import Payload, Prompt, Row
from raylign.testing import tiny_run


def pair(answer: int) -> Pair:
    prompt = Prompt(id="p", messages=(), token_ids=np.array([1, 2], np.int32))
    return Pair(prompt=prompt, chosen=np.array([answer], np.int32), rejected=np.array([9], np.int32))


def test_other_rows_another_order_and_another_loss_are_other_data() -> None:
    rows = rows_of_pairs([pair(3), pair(4)])
    known = identity_of_rows(rows)
    known.check(known.state())
    masked = [*rows]
    masked[0].loss_mask[0] = True
    for other in (
        rows_of_pairs([pair(3), pair(5)]),
        rows_of_pairs([pair(4), pair(3)]),
        rows_of_pairs([pair(3)]),
        masked,
    ):
        with pytest.raises(CheckpointError, match="other data"):
            identity_of_rows(other).check(known.state())
    with pytest.raises(CheckpointError, match="does not say"):
        known.check(None)


def seen(image: int) -> Row:
    (row,) = rows_of_pairs([pair(3)])[:1]
    return replace(row, payload={"image": put(Payload(kind="image", content=np.full((2, 2), image, np.uint8)))})


def test_rows_of_the_same_tokens_beside_other_images_are_other_data(tmp_path: Path) -> None:
    known = identity_of_rows([seen(1)])
    identity_of_rows([seen(1)]).check(known.state())
    for other in ([seen(2)], [replace(seen(1), payload={})]):
        with pytest.raises(CheckpointError, match="other data"):
            identity_of_rows(other).check(known.state())
    plain, first, second = (Batch.from_rows([row]) for row in (replace(seen(1), payload={}), seen(1), seen(2)))
    cache = ScoreCache(tmp_path, {"model": "a"})
    cache.store(first, np.zeros(first.tokens, np.float32))
    assert [cache.find(batch)[0] is not None for batch in (plain, first, second, Batch.from_rows([seen(1)]))] == [
        False,
        True,
        False,
        True,
    ]


class Context:
    """Where a stage keeps its checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = SimpleNamespace(stage=lambda name: folder)
        self.cfg = SimpleNamespace(run=SimpleNamespace(keep_checkpoints=1, save_every=0))
        self.recorder = SimpleNamespace(event=lambda *_, **__: None, flushed=self.flushed)
        self.stop_requested = False

    async def flushed(self) -> None: ...

    def begin(self, *_: Any) -> None: ...

    def phase(self, *_: Any) -> None: ...


class Nothing:
    """Trains nothing."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    async def save(self, folder: Path) -> None: ...

    async def restore(self, folder: Path, state: Mapping[str, Any]) -> None: ...


async def test_a_training_goes_on_with_its_own_data_only(tmp_path: Path) -> None:
    context: Any = Context(tmp_path)
    mine, other = (identity_of_rows(rows_of_pairs([pair(answer)])) for answer in (3, 4))
    training = Training(context, "sft", 2, mine)
    async for step in training.steps(Nothing()):
        training.kept["steps"] = step + 1
    again = Training(context, "sft", 2, mine)
    assert (again.start, again.kept) == (2, {"steps": 2})
    with pytest.raises(CheckpointError, match="other data"):
        Training(context, "sft", 2, other)


def test_scores_are_kept_by_all_that_a_reference_reads(tiny_model: Path) -> None:
    def identity(domain: str, *settings: str, solution: str = "s") -> dict[str, str]:
        run = tiny_run("objective.kl_coef=0.1", *settings)
        asked = replace(pair(3), prompt=replace(pair(3).prompt, domain=domain, meta={"solution": solution}))
        report: Any = None
        pairs = PairSet(train=(asked,), holdout=(), report=report)
        context: Any = SimpleNamespace(cfg=run.config, lineage=SimpleNamespace(of=lambda path: str(tiny_model)))
        return reference_identity(context, pairs)

    context = "frozen.reference.context={_target_: raylign.recipes.g_opd.context.SolutionContext}"
    assert identity("a") == identity("b"), "it reads the ids alone"
    assert identity("a", context) == identity("a", context) != identity("a")
    assert identity("a", context) != identity("a", context, solution="another")
    for setting in ("frozen.reference.domain=a", "frozen.reference.own_template=true"):
        assert identity("a", setting) != identity("b", setting)
