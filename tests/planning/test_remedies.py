"""What is advised for a plan that does not fit: no part of it is needless, and a run would take it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shapes import folder_of, plan_of

from raylign import remedies
from raylign.actors.learner.optimization import effective_stage
from raylign.config.schema import LearnerConfig, Offload
from raylign.errors import PlanError
from raylign.models.facts import ModelFacts
from raylign.models.memory import learner_sizes, state_bytes
from raylign.plan import Plan, Role
from raylign.remedies import Change, misfit, remedy

NODE, DEVICE = [{"CPU": 128.0, "GPU": 8.0}], 80.0
HALF, OFFLOAD = {"learner.micro_batch_tokens": 8192}, {"learner.offload": Offload.cpu}


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Lacks 10 GiB: half the micro-batch gives 6 of them, offloading all."""
    return plan_of(folder_of("Qwen3-8B", tmp_path_factory.mktemp("shapes") / "model"), "node")


def offered(monkeypatch: pytest.MonkeyPatch, *rounds: Change) -> None:
    """Each round of the search finds this one change."""
    left = iter(rounds)

    def changes(*_: Any) -> Iterator[Change]:
        yield next(left)

    monkeypatch.setattr(remedies, "_changes", changes)


@pytest.mark.parametrize(
    ("rounds", "advised"),
    [
        ((OFFLOAD,), OFFLOAD),
        ((HALF, OFFLOAD), OFFLOAD),
        ((HALF, {"learner.zero_stage": 3}), {**HALF, "learner.zero_stage": 3}),
    ],
    ids=["one is enough", "what came to nothing is taken back", "both are needed"],
)
def test_no_change_of_an_advice_is_needless(
    rounds: tuple[Change, ...], advised: Change, tight: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(monkeypatch, *rounds)
    assert remedy(tight, NODE, DEVICE) == advised


def test_every_part_of_what_is_found_is_needed(tight: Plan) -> None:
    found, blueprint = remedy(tight, NODE, DEVICE), tight.blueprint
    assert found and blueprint is not None
    for left_out in found:
        rest = {key: value for key, value in found.items() if key != left_out}
        assert misfit(blueprint.plan(remedies.changed(blueprint.config, [rest])), NODE, DEVICE) > 0, left_out


@pytest.mark.parametrize(
    "wrong", [{"learner.logprob_chunk": 0}, {"rollout.tensor_parallel": 3}, {"learner.cpus": -1.0}]
)
def test_what_a_run_would_refuse_is_not_advised(wrong: Change, tight: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    offered(monkeypatch, {**OFFLOAD, **wrong})
    assert remedy(tight, NODE, DEVICE) == {}


def test_an_engine_whose_share_does_not_hold_it_is_refused() -> None:
    role = Role(name="rollout", actors=1, cpus=1, gpus=1, memory_gb=20, share=0.4, least_gb=33.0)
    with pytest.raises(PlanError, match=r"rollout needs 33\.0 GiB .*; its share is 32\.0 GiB, 40% of a GPU of 80 GiB"):
        Plan(roles=(role,)).check([{"CPU": 1.0, "GPU": 1.0}], DEVICE)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_plan_counts_the_stage_that_runs(stage: int, dtype: str, tmp_path: Path) -> None:
    shape = ModelFacts(name="x", parameters=10**9, context=1, layers=2, hidden=8, vocab=8, kv_values=8)
    learner = LearnerConfig(zero_stage=stage, ranks=4)
    runs = LearnerConfig(zero_stage=effective_stage(learner, dtype), ranks=4)
    sizes = learner_sizes(learner, 4, dtype, shape)
    assert sizes == learner_sizes(runs, 4, dtype, shape)
    assert sizes["gradients"] == 1e9 * state_bytes(runs.zero_stage, 4, dtype == "bfloat16")["gradients"]
    if dtype == "bfloat16":
        model = folder_of("Qwen3-0.6B", tmp_path / "model")
        planned = [
            plan_of(model, "node", f"learner.zero_stage={n}").role("learner").memory_gb for n in (stage, max(stage, 2))
        ]
        assert planned[0] == planned[1]
