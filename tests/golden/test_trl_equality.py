"""Loss and gradient equal to TRL 1.16's own `GRPOTrainer._compute_loss`, same model, same batch.

TRL pads prompts on the left and completions on the right and runs one padded forward; ours runs unpadded rows in
several micro-batches and sums the components. Both start from the same tiny Qwen3.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from golden_toy import view

from raylign.batch import Batch, offsets_of
from raylign.config.schema import TinyModel
from raylign.models.tiny import build_tiny_model
from raylign.objectives.advantage.group import GRPO, Std
from raylign.objectives.aggregate import Aggregation
from raylign.objectives.loss.base import OldLogprob, PolicyLoss
from raylign.objectives.loss.policy import CISPO, GSPO, CispoBounds, ClippedLoss
from raylign.objectives.mismatch import Mismatch, MismatchConfig, mismatch_weights
from raylign.packing import pack

pytestmark = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl (a dev dependency) is absent")

GROUPS, SIZE, LENGTH = 3, 4, 10
TEMPERATURE = 0.8
SHAPE = TinyModel(hidden_size=32, layers=2, heads=2, kv_heads=1, head_dim=16, intermediate_size=64, context=64)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real GRPOTrainer on the tiny model in float64, never stepped."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    folder = tmp_path_factory.mktemp("trl")
    args = GRPOConfig(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=GROUPS * SIZE,
        num_generations=SIZE,
        max_completion_length=LENGTH,
        temperature=TEMPERATURE,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
    )
    made = GRPOTrainer(
        model=str(build_tiny_model(SHAPE, folder / "models")),
        args=args,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=Dataset.from_dict({"prompt": ["a"] * 8}),
    )
    made.model.double().train()
    made.current_gradient_accumulation_steps = 1
    made.args.use_bias_correction_kl = False  # on by default in TRL 1.16; `kl_ratio` here, tested by name
    return made


@pytest.fixture(autouse=True)
def restore(trainer: Any) -> Iterator[None]:
    """Settings are attributes of the one trainer; put them back after each test."""
    names = ("loss_type", "beta", "epsilon_low", "epsilon_high", "importance_sampling_level", "use_vllm")
    kept = {name: getattr(trainer, name) for name in names}
    yield
    for name, value in kept.items():
        setattr(trainer, name, value)
    trainer.args.delta = None
    trainer.args.use_bias_correction_kl = False
    trainer.vllm_importance_sampling_correction = False


@pytest.fixture(scope="module")
def batch(trainer: Any) -> Batch:
    """Rows of different prompt and response lengths, with log-probs near the model's and group advantages."""
    rng = np.random.default_rng(0)
    rows, masks, prompts, numbers = [], [], [], []
    for group in range(GROUPS):
        prompt = rng.integers(6, 200, rng.integers(2, 8))
        for _ in range(SIZE):
            length = int(rng.integers(1, LENGTH + 1))
            rows.append(np.concatenate([prompt, rng.integers(6, 200, length)]))
            masks.append(np.arange(len(rows[-1])) >= len(prompt))
            prompts.append(len(prompt))
            numbers.append(group)
    mask = np.concatenate(masks)
    bare = Batch(
        offsets=offsets_of([len(row) for row in rows]),
        prompt_lengths=np.array(prompts, np.int32),
        groups=np.array(numbers, np.int32),
        streams={
            "token_ids": np.concatenate(rows).astype(np.int32),
            "loss_mask": mask,
            "weight": np.ones(len(mask), np.float32),
        },
    )
    own = np.zeros(len(mask))
    for micro in pack(bare, 1, 64, False)[0]:
        own[micro.token_index] = forward(trainer.model, bare, micro)["logprob"].detach().numpy()

    def near(scale: float) -> np.ndarray:
        return np.where(mask, own + scale * rng.standard_normal(len(mask)), 0.0)

    row_advantage = rng.standard_normal(len(rows))
    return bare.with_streams(
        old_logprob=near(0.3),
        ref_logprob=near(0.5),
        sampler_logprob=near(0.4),
        advantage=np.where(mask, row_advantage[bare.row_of_token], 0.0),
    )


def forward(model: torch.nn.Module, batch: Batch, micro: Any) -> dict[str, torch.Tensor]:
    """Log-prob and entropy at the loss tokens: each row on its own, no padding."""
    hidden = []
    for start, length, _, prefix_length in micro.segments:
        assert prefix_length == 0
        ids = torch.from_numpy(micro.token_ids[start : start + length])[None]
        hidden.append(model(input_ids=ids).logits[0])
    logits = torch.cat(hidden)[torch.from_numpy(micro.predict_index)] / TEMPERATURE
    logp = torch.log_softmax(logits, dim=-1)
    chosen = torch.from_numpy(batch["token_ids"][micro.token_index].astype(np.int64))
    return {"logprob": logp.gather(1, chosen[:, None])[:, 0], "entropy": -(logp.exp() * logp).sum(-1)}


def padded(batch: Batch, stream: str) -> torch.Tensor:
    """[B, LENGTH] the responses of a stream, padded on the right."""
    result = torch.zeros(len(batch), LENGTH, dtype=torch.float64)
    for row in range(len(batch)):
        values = batch.row(row, stream)[batch.prompt_lengths[row] :]
        result[row, : len(values)] = torch.from_numpy(np.array(values, np.float64))
    return result


def trl_inputs(batch: Batch) -> dict[str, torch.Tensor]:
    width = int(batch.prompt_lengths.max())
    prompt_ids = torch.zeros(len(batch), width, dtype=torch.int64)
    prompt_mask = torch.zeros(len(batch), width, dtype=torch.int64)
    for row, length in enumerate(batch.prompt_lengths):
        prompt_ids[row, width - length :] = torch.from_numpy(batch.row(row, "token_ids")[:length].astype(np.int64))
        prompt_mask[row, width - length :] = 1
    completion_mask = padded(batch, "loss_mask").long()
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": padded(batch, "token_ids").long(),
        "completion_mask": completion_mask,
        "advantages": padded(batch, "advantage")[:, 0],
        "old_per_token_logps": padded(batch, "old_logprob"),
        "ref_per_token_logps": padded(batch, "ref_logprob"),
        "num_items_in_batch": completion_mask.sum(),
    }


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def theirs(trainer: Any, inputs: dict[str, torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), gradients(trainer.model)


def ours(trainer: Any, batch: Batch, objective: PolicyLoss) -> tuple[float, list[torch.Tensor]]:
    prepared = objective.prepare(batch)
    trainer.model.zero_grad()
    total = 0.0
    for micro in pack(batch, 1, 40, False)[0]:
        terms = objective.terms(view(prepared, micro, **forward(trainer.model, prepared, micro)))
        loss = sum(terms.components.values())
        loss.backward()
        total += loss.item()
    return total, gradients(trainer.model)


def assert_equal(mine: tuple[float, list[torch.Tensor]], other: tuple[float, list[torch.Tensor]]) -> None:
    assert mine[0] == pytest.approx(other[0], abs=1e-6)
    assert len(mine[1]) == len(other[1]) > 10
    assert max(gradient.abs().max().item() for gradient in other[1]) > 1e-2
    for one, two in zip(mine[1], other[1], strict=True):
        assert (one - two).abs().max().item() <= 1e-6


AGGREGATIONS = {
    "grpo": (Aggregation.sequence, 0),
    "dapo": (Aggregation.token, 0),
    "bnpo": (Aggregation.token, 0),  # equal to dapo when the batch is one micro-batch, as here
    "dr_grpo": (Aggregation.constant, LENGTH),
}


@pytest.mark.parametrize("loss_type", AGGREGATIONS)
@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("old", [OldLogprob.recompute, OldLogprob.detach])
def test_grpo_family(trainer: Any, batch: Batch, loss_type: str, beta: float, old: OldLogprob) -> None:
    trainer.loss_type, trainer.beta, trainer.epsilon_low, trainer.epsilon_high = loss_type, beta, 0.2, 0.28
    inputs = trl_inputs(batch)
    if old is OldLogprob.detach:
        del inputs["old_per_token_logps"]
    mode, length = AGGREGATIONS[loss_type]
    objective = ClippedLoss(
        ClippedLoss.Config(clip_high=0.28, aggregation=mode, constant_length=length, kl_coef=beta, old_logprob=old)
    )
    assert_equal(ours(trainer, batch, objective), theirs(trainer, inputs))


@pytest.mark.parametrize("old", [OldLogprob.recompute, OldLogprob.detach])
def test_kl_times_ratio(trainer: Any, batch: Batch, old: OldLogprob) -> None:
    trainer.loss_type, trainer.beta, trainer.args.use_bias_correction_kl = "dapo", 0.5, True
    inputs = trl_inputs(batch)
    if old is OldLogprob.detach:
        del inputs["old_per_token_logps"]
    mine = ours(trainer, batch, ClippedLoss(ClippedLoss.Config(kl_coef=0.5, kl_ratio=True, old_logprob=old)))
    assert_equal(mine, theirs(trainer, inputs))


def test_two_sided_clip_is_dual_clip(trainer: Any, batch: Batch) -> None:
    trainer.loss_type, trainer.args.delta = "dapo", 1.3
    objective = ClippedLoss(ClippedLoss.Config(old_logprob=OldLogprob.recompute, dual_clip=1.3))
    assert_equal(ours(trainer, batch, objective), theirs(trainer, trl_inputs(batch)))


def test_gspo(trainer: Any, batch: Batch) -> None:
    trainer.loss_type, trainer.importance_sampling_level = "grpo", "sequence"
    trainer.epsilon_low, trainer.epsilon_high = 0.05, 0.06
    objective = GSPO(
        GSPO.Config(
            old_logprob=OldLogprob.recompute,
            aggregation=Aggregation.sequence,
            clip_low=0.05,
            clip_high=0.06,
        )
    )
    assert_equal(ours(trainer, batch, objective), theirs(trainer, trl_inputs(batch)))


def test_cispo(trainer: Any, batch: Batch) -> None:
    trainer.loss_type, trainer.epsilon_high = "cispo", 1.2
    objective = CISPO(
        CISPO.Config(
            cispo_bounds=CispoBounds.absolute,
            clip_high=1.2,
            old_logprob=OldLogprob.recompute,
        )
    )
    assert_equal(ours(trainer, batch, objective), theirs(trainer, trl_inputs(batch)))


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [
        (Mismatch.truncate, 0.0, 1.2),
        (Mismatch.mask, 0.6, 1.5),
        (Mismatch.sequence_truncate, 0.0, 1.5),
        (Mismatch.sequence_mask, 0.0, 3.0),
    ],
)
def test_sampler_correction_enters_the_loss_as_theirs(
    trainer: Any, batch: Batch, mode: Mismatch, low: float, high: float
) -> None:
    """TRL makes the weights while generating and hands them to `_compute_loss`; here both get the same ones."""
    trainer.loss_type, trainer.beta, trainer.use_vllm = "dapo", 0.1, True
    trainer.vllm_importance_sampling_correction = True
    mismatch = MismatchConfig(mode=mode, low=low, high=high)
    old, sampler = padded(batch, "old_logprob"), padded(batch, "sampler_logprob")
    rows = torch.arange(len(batch)).repeat_interleave(LENGTH)
    weights = mismatch_weights(mismatch, old.reshape(-1), sampler.reshape(-1), rows, len(batch)).reshape(-1, LENGTH)
    gap = old - sampler
    ratio = torch.exp(gap.sum(-1, keepdim=True).expand_as(gap) if "sequence" in mode.name else gap)  # TRL's lines
    if "mask" in mode.name:
        expected = ratio.masked_fill((ratio < low) | (ratio > high), 0.0)
    else:
        expected = torch.clamp(ratio, max=high)
    torch.testing.assert_close(weights, expected)
    inputs = {**trl_inputs(batch), "importance_sampling_ratio": expected}
    objective = ClippedLoss(ClippedLoss.Config(old_logprob=OldLogprob.recompute, kl_coef=0.1, mismatch=mismatch))
    assert_equal(ours(trainer, batch, objective), theirs(trainer, inputs))


def test_masked_tool_tokens(trainer: Any, batch: Batch) -> None:
    """TRL's tool_mask is our loss mask with holes."""
    mask = batch["loss_mask"].copy()
    for row in range(len(batch)):
        length = batch.offsets[row + 1] - batch.offsets[row] - batch.prompt_lengths[row]
        if length > 3:
            mask[batch.offsets[row] + batch.prompt_lengths[row] + 1] = False
    holed = batch.with_streams(loss_mask=mask)
    inputs = {
        **trl_inputs(batch),
        "tool_mask": padded(holed, "loss_mask"),
        "num_items_in_batch": torch.tensor(mask.sum()),
    }
    trainer.loss_type = "dapo"
    objective = ClippedLoss(ClippedLoss.Config(old_logprob=OldLogprob.recompute))
    assert_equal(ours(trainer, holed, objective), theirs(trainer, inputs))


@pytest.mark.parametrize("scores", [[1, 0, 0, 1, 0.3, 0.1, 0.9, 0.2, 1, 0, 0, 0], [1, float("nan"), 0, 1] * 3])
def test_group_advantages(scores: list[float]) -> None:
    """The lines of `_generate_and_score_completions`: nanmean, TRL's own nanstd, 1e-4."""
    from trl.trainer.utils import nanstd

    rewards = torch.tensor(scores, dtype=torch.float64)
    grouped = rewards.view(-1, SIZE)
    expected = (grouped - torch.nanmean(grouped, 1, keepdim=True)) / (nanstd(grouped, dim=1)[:, None] + 1e-4)
    expected = torch.nan_to_num(expected, nan=0.0).reshape(-1)
    rows = len(scores)
    batch = Batch(
        offsets=np.arange(0, 2 * rows + 1, 2),
        prompt_lengths=np.ones(rows, np.int32),
        groups=np.repeat(np.arange(GROUPS), SIZE).astype(np.int32),
        streams={"loss_mask": np.tile([False, True], rows), "weight": np.ones(2 * rows, np.float32)},
    )
    method = GRPO(GRPO.Config(std=Std.sample, epsilon=1e-4))
    done, _ = method.assign(batch, np.array(scores, np.float64))
    np.testing.assert_allclose(done["advantage"][1::2], expected.numpy(), atol=1e-6)
