"""Real DeepSpeed ranks against a plain PyTorch loop: the same numbers at any ZeRO stage, rank count and packing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from learner_cases import (
    CROSS_ENTROPY,
    OPTIM,
    POLICY,
    VALUE,
    ReferenceRun,
    learner_config,
    logprobs_of,
    make_batch,
    read_weights,
    reference_logprobs,
    run,
    values_of,
)

from raylign.actors.learner.spec import LearnerSpec
from raylign.config.schema import Offload, OptimConfig, Schedule
from raylign.errors import LearnerError

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed]

BATCHES = [make_batch(seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> ReferenceRun:
    return ReferenceRun(tiny_model, BATCHES, OPTIM)


def load(group: Any, folder: Path | str, **changes: Any) -> None:
    fields = {name: changes.pop(name) for name in ("dtype", "kind", "temperature", "total_steps") if name in changes}
    config = learner_config(**changes)
    run(group.load(LearnerSpec(**{"model_path": str(folder), "learner": config, "total_steps": 10, **fields})))


def train(
    group: Any, objective: dict[str, Any] = CROSS_ENTROPY, batches: list[Any] = BATCHES
) -> list[dict[str, float]]:
    return [dict(run(group.update(batch, objective)).metrics) for batch in batches]


def test_what_an_update_saw(start_group: Callable[[int], Any], tiny_model: Path) -> None:
    pair = start_group(2)
    load(pair, tiny_model, ranks=2, zero_stage=1, micro_batch_tokens=60)
    before = logprobs_of(pair, BATCHES[0])
    update = run(pair.update(BATCHES[0], POLICY))
    np.testing.assert_allclose(update.logprobs, before, atol=2e-5)
    assert np.abs(logprobs_of(pair, BATCHES[0]) - before).max() > 1e-3, "the step changed them"


@pytest.mark.parametrize(
    ("ranks", "stage", "changes"),
    [
        (1, 0, {}),
        (2, 0, {}),
        (2, 1, {}),
        (2, 2, {}),
        (2, 3, {}),
        (1, 3, {}),
        (2, 1, {"share_prompts": False, "micro_batch_tokens": 1}),
        (2, 3, {"gradient_checkpointing": True, "micro_batch_tokens": 5000}),
        (2, 2, {"offload": Offload.cpu}),
        (2, 3, {"offload": Offload.cpu}),
    ],
)
def test_training_equals_plain_pytorch(
    start_group: Callable[[int], Any], tiny_model: Path, reference: ReferenceRun, ranks: int, stage: int, changes: dict
) -> None:
    group = start_group(ranks)
    load(group, tiny_model, ranks=ranks, zero_stage=stage, **changes)
    reports = train(group)
    np.testing.assert_allclose([report["loss"] for report in reports], reference.losses, rtol=1e-5)
    np.testing.assert_allclose([report["grad_norm"] for report in reports], reference.norms, rtol=1e-4)
    weights = read_weights(run(group.publish(3)))
    assert weights.keys() == reference.weights.keys()
    for name, wanted in reference.weights.items():
        # a step moves a weight by up to 1e-3
        np.testing.assert_allclose(weights[name], wanted, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("ranks", [1, 2])
def test_losses_and_metrics_do_not_depend_on_packing_or_row_order(
    start_group: Callable[[int], Any], tiny_model: Path, ranks: int
) -> None:
    group, batch = start_group(ranks), BATCHES[0]
    shuffled = batch.select(np.random.default_rng(1).permutation(len(batch)))
    by_packing = []
    for rows, budget, share in ((batch, 160, True), (batch, 5000, False), (shuffled, 60, True)):
        load(group, tiny_model, ranks=ranks, micro_batch_tokens=budget, share_prompts=share, temperature=0.8)
        by_packing.append(run(group.update(rows, POLICY)).metrics)
    keys = {"loss", "loss/policy", "loss/entropy", "entropy", "sampler_gap", "max/sampler_gap", "ratio", "grad_norm"}
    for other in by_packing[1:]:
        for key in keys:
            assert other[key] == pytest.approx(by_packing[0][key], rel=2e-5, abs=1e-6), key


@pytest.mark.parametrize(("ranks", "stage"), [(1, 1), (2, 3)])
def test_a_model_that_carries_state_trains_one_row_at_a_time(
    start_group: Callable[[int], Any], tmp_path: Path, ranks: int, stage: int
) -> None:
    from benchmarks.sides.families import FAMILIES, build

    folder = build(next(family for family in FAMILIES if family.model_type == "bloom"), tmp_path)
    batches = BATCHES[:2]
    wanted = ReferenceRun(folder, batches, OPTIM)
    group = start_group(ranks)
    load(group, folder, ranks=ranks, zero_stage=stage, micro_batch_tokens=100)
    reports = train(group, batches=batches)
    np.testing.assert_allclose([report["loss"] for report in reports], wanted.losses, rtol=1e-4)
    np.testing.assert_allclose([report["grad_norm"] for report in reports], wanted.norms, rtol=1e-3)


def test_more_ranks_than_rows(start_group: Callable[[int], Any], tiny_model: Path) -> None:
    group, batch = start_group(2), BATCHES[0].select([0])
    losses = []
    for stage in (1, 3):
        load(group, tiny_model, ranks=2, zero_stage=stage)
        losses.append(run(group.update(batch, CROSS_ENTROPY)).metrics["loss"])
        np.testing.assert_allclose(logprobs_of(group, batch).shape, (batch.tokens,))
    wanted = -reference_logprobs(tiny_model, batch).sum() / batch["loss_mask"].sum()
    assert losses == pytest.approx([wanted] * 2, rel=1e-5)


@pytest.mark.parametrize("stage", [1, 3])
def test_logprobs_and_probe_equal_transformers(start_group: Callable[[int], Any], tiny_model: Path, stage: int) -> None:
    group, batch = start_group(2), BATCHES[1]
    load(group, tiny_model, ranks=2, zero_stage=stage, temperature=0.7)
    got = logprobs_of(group, batch)
    np.testing.assert_allclose(got, reference_logprobs(tiny_model, batch, 0.7), atol=1e-5)
    update = run(group.publish(1))
    import ray

    from raylign.actors.learner.probe import probe_batch
    from raylign.weights import digests_of

    probe = probe_batch(update.probe_ids)
    np.testing.assert_allclose(
        update.probe_logprobs, reference_logprobs(tiny_model, probe).reshape(8, 17)[:, 1:], atol=1e-5
    )
    assert update.probe_logprobs.size == 128 and run(group.publish(2)).probe_ids.tolist() == update.probe_ids.tolist()
    assert update.digests == digests_of(ray.get(update.buffer), update.layout)


def test_learning_rates_are_applied(start_group: Callable[[int], Any], tiny_model: Path) -> None:
    group = start_group(1)
    optim = OptimConfig(lr=1e-3, schedule=Schedule.linear, warmup_steps=2, min_lr_ratio=0.0)
    load(group, tiny_model, optim=optim, total_steps=4)
    before = read_weights(run(group.publish(0)))
    reports = [*train(group), run(group.update(BATCHES[0], CROSS_ENTROPY)).metrics]
    assert [report["lr"] for report in reports] == pytest.approx([5e-4, 1e-3, 1e-3, 0.0])
    assert [report["learner/optimizer_step"] for report in reports] == [1, 2, 3, 4]
    name = "model.norm.weight"
    first = read_weights(run(group.publish(1)))[name]
    assert not np.array_equal(first, before[name])
    run(group.update(BATCHES[0], CROSS_ENTROPY))  # beyond the end the rate stays 0
    np.testing.assert_array_equal(read_weights(run(group.publish(2)))[name], first)


@pytest.mark.parametrize("stage", [2, 3])
def test_critic_learns(start_group: Callable[[int], Any], tiny_model: Path, tmp_path: Path, stage: int) -> None:
    group, batch = start_group(2), BATCHES[0]
    load(group, tiny_model, ranks=2, zero_stage=stage, kind="scalar_head", optim=OptimConfig(lr=3e-3))
    assert np.count_nonzero(values_of(group, batch)) == 0
    reports = [run(group.update(batch, VALUE)).metrics for _ in range(8)]
    target = batch["return"][batch["loss_mask"]]
    assert reports[0]["value_error"] == pytest.approx(float(np.mean(target**2)), rel=1e-5)
    assert reports[-1]["value_error"] < 0.9 * reports[0]["value_error"]
    values = values_of(group, batch)
    assert not values[~batch["loss_mask"]].any()
    run(group.export(str(tmp_path / "critic")))
    load(group, tmp_path / "critic", ranks=2, zero_stage=1, kind="scalar_head")
    np.testing.assert_allclose(values_of(group, batch), values, atol=1e-6)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_bf16_follows_float32(
    start_group: Callable[[int], Any], tiny_model: Path, reference: ReferenceRun, stage: int
) -> None:
    group = start_group(2)
    load(group, tiny_model, ranks=2, zero_stage=stage, dtype="bfloat16")
    reports = train(group)
    np.testing.assert_allclose([report["loss"] for report in reports], reference.losses, rtol=3e-3)
    np.testing.assert_allclose([report["grad_norm"] for report in reports], reference.norms, rtol=3e-2)
    update = run(group.publish(1))
    assert {dtype for _, dtype, _, _ in update.layout} == {"bfloat16"}


@pytest.mark.parametrize("stage", [1, 3])
def test_export_loads_with_transformers(
    start_group: Callable[[int], Any], tiny_model: Path, tmp_path: Path, stage: int
) -> None:
    from safetensors import safe_open
    from transformers import AutoTokenizer

    group, batch = start_group(2), BATCHES[2]
    load(group, tiny_model, ranks=2, zero_stage=stage)
    train(group)
    folder = tmp_path / "export"
    run(group.export(str(folder)))
    np.testing.assert_allclose(reference_logprobs(folder, batch), logprobs_of(group, batch), atol=1e-5)
    with safe_open(folder / "model.safetensors", "pt") as stored:
        assert "lm_head.weight" not in stored.keys() and "model.embed_tokens.weight" in stored.keys()  # noqa: SIM118
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template and tokenizer.eos_token == "<|end|>"


def test_calls_that_do_not_fit_the_model(start_group: Callable[[int], Any], tiny_model: Path, tmp_path: Path) -> None:
    from raylign.actors.learner.group import LearnerGroup

    group = LearnerGroup("early", learner_config(), log_dir=tmp_path, options=lambda rank: {})
    with pytest.raises(LearnerError, match="streams was called before load"):
        logprobs_of(group, BATCHES[0])


def test_frozen_model_equals_transformers_also_after_a_death(
    ray_session: None, tiny_model: Path, tmp_path: Path
) -> None:
    from raylign.actors.frozen_model import FrozenModelGroup

    causes: list[LearnerError] = []
    spec = LearnerSpec(
        model_path=str(tiny_model),
        learner=learner_config(ranks=2, max_restarts=1),
        total_steps=0,
        temperature=0.9,
        deadline_s=120,
    )
    group = FrozenModelGroup(
        spec, name="reference", log_dir=tmp_path, options=lambda rank: {"num_cpus": 0.5}, restarted=causes.append
    )
    expected = reference_logprobs(tiny_model, BATCHES[0], 0.9)
    run(group.start())
    np.testing.assert_allclose(run(group.logprobs(BATCHES[0])), expected, atol=1e-5)
    assert (tmp_path / "frozen-reference-1.log").exists()
    kill_a_frozen_model()
    np.testing.assert_allclose(run(group.logprobs(BATCHES[0])), expected, atol=1e-5)
    assert len(causes) == 1 and "frozen-reference.logprobs failed on rank" in str(causes[0])
    kill_a_frozen_model()
    with pytest.raises(LearnerError, match="the process died"):
        run(group.logprobs(BATCHES[0]))
    run(group.close())


def kill_a_frozen_model() -> None:
    children = psutil.Process().children(recursive=True)
    victim = next(child for child in children if " ".join(child.cmdline()).startswith("ray::FrozenModelWorker"))
    victim.kill()
    victim.wait(20)


def test_a_third_kind_needs_no_edit_of_the_engine(
    start_group: Callable[[int], Any], tiny_model: Path, tmp_path: Path
) -> None:
    from raylign.payloads import put
    from raylign.records import Payload

    group, folder = start_group(2), str(tmp_path / "checkpoint")
    means = np.linspace(-1, 1, len(BATCHES[0])).astype(np.float32)
    images = tuple({"image": put(Payload(kind="image", content=np.full((2, 2), mean)))} for mean in means)
    batch = replace(BATCHES[0], payloads=images)
    load(group, tiny_model, ranks=2, kind={"_target_": "constant_kind.Constant", "start": 0.5})
    assert group.fills == {"constant"}
    wanted = np.where(batch["loss_mask"], 0.5 + means[batch.row_of_token], 0)
    np.testing.assert_allclose(run(group.streams(batch, ["constant"]))["constant"], wanted, rtol=1e-6)
    first = run(group.update(batch, VALUE)).metrics["value_error"]
    run(group.save(folder))
    after = run(group.update(batch, VALUE)).metrics["value_error"]
    assert after != first
    load(group, tiny_model, ranks=2, kind={"_target_": "constant_kind.Constant", "start": 0.5})
    run(group.restore(folder))
    assert run(group.update(batch, VALUE)).metrics["value_error"] == after
    run(group.export(str(tmp_path / "export")))
    assert (tmp_path / "export" / "level.safetensors").exists()
