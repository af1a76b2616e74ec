"""Bytes that each role takes on its device, by formulas that were measured; pure arithmetic.

Learner, bf16, bytes a parameter on N ranks (measured after the backward pass on this DeepSpeed):

    stage 1   8 + 12/N      bf16 weights and gradients, whole fp32 gradients; master weights and two moments
    stage 2   2 + 16/N      the fp32 gradients are split too
    stage 3   18/N          and the weights; 4 x min(P/N, 1e9) bytes more during the step

fp32 is the same with 4-byte weights; stage 0 keeps no master weights (16). Stages 2 and 3 add 2 GB of buckets. With
gradient checkpointing a layer keeps 2 hidden-sized tensors of a token, 30 without. The backward pass of the head holds
an fp32 gradient, its product, and three chunks of fp32 logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raylign.config.schema import Config, EngineConfig, LearnerConfig, Offload
from raylign.models.facts import ModelFacts

GB = 2**30
BUCKETS = 2e9  # bytes: reduce buckets of 5e8 elements
SUBGROUP = 1e9  # parameters that a stage-3 step converts at a time
BATCHED_TOKENS = 8192  # prompt tokens of one engine step
PROMPT_ROWS = 1024  # rows of fp32 logits that an engine holds for log-probs of prompts
GRAPHS = 1.5 * GB  # captured graphs, NCCL and cuBLAS of one engine's rank
Sizes = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes of one actor. text: what they are of, in GiB; least: without which an engine cannot start; context: of
    that, keys and values of one full context.

    Example: ``Estimate(bytes=3e9, text="weights 2.79")``
    """

    bytes: float
    text: str
    least: float = 0.0
    context: float = 0.0

    @property
    def gb(self) -> float:
        """GiB."""
        return self.bytes / GB


def state_bytes(stage: int, ranks: int, bf16: bool) -> Sizes:
    """Bytes a parameter on one rank, after the backward pass: weights, gradients, optimizer."""
    if not bf16:
        optimizer = 8.0 if stage == 0 else 12 / ranks
        return {
            "weights": 4 / (ranks if stage == 3 else 1),
            "gradients": 4 / (ranks if stage > 1 else 1),
            "optimizer": optimizer,
        }
    gradients = {1: 6.0, 2: 4 / ranks, 3: 4 / ranks}[max(stage, 1)]
    return {"weights": 2 / (ranks if stage == 3 else 1), "gradients": gradients, "optimizer": 12 / ranks}


def learner_sizes(
    learner: LearnerConfig, ranks: int, dtype: str, facts: ModelFacts, *, head: bool = True, lora: int = 0
) -> Sizes:
    """Bytes on one rank at the peak. head: whether it has a language model's output layer; lora: rank of adapters that
    are trained in place of the weights, 0: none.
    """
    bf16 = dtype != "float32"
    stage, width = (max(learner.zero_stage, 2), 2) if bf16 else (learner.zero_stage, 4)
    trained = lora * facts.linear if lora else facts.parameters
    sizes = {name: each * trained for name, each in state_bytes(stage, ranks, bf16).items()}
    if lora:
        sizes["weights"] *= (facts.parameters + trained) / trained
    if learner.offload is Offload.cpu and learner.gpus:
        del sizes["optimizer"]
    elif stage == 3:
        sizes["optimizer"] += 4 * min(trained / ranks, SUBGROUP)
    if stage > 1 and learner.gpus:
        sizes["buckets"] = BUCKETS
    numbers = 2 if learner.gradient_checkpointing else 30
    sizes["activations"] = learner.micro_batch_tokens * facts.hidden * facts.layers * numbers * float(width)
    if head:
        copies = 4 + (4 if learner.fp32_head else width)
        sizes["head"] = facts.vocab * (copies * facts.hidden + 3 * 4.0 * learner.logprob_chunk)
        sizes["head"] += 4.0 * facts.vocab * facts.hidden if learner.fp32_head else 0
    return sizes


def frozen_model_sizes(config: Config, facts: ModelFacts, head: bool = True) -> Sizes:
    """Bytes of a frozen model that scores. head: whether it has a language model's output layer."""
    width = 4 if config.model.dtype == "float32" else 2
    logits = {"logits": 2 * config.learner.logprob_chunk * facts.vocab * 4.0} if head else {}
    return {
        "weights": float(facts.parameters * width),
        **logits,
        "activations": config.learner.micro_batch_tokens * facts.hidden * 12.0 * width,
    }


def engine_sizes(engine: EngineConfig, facts: ModelFacts, dtype: str, max_context: int) -> tuple[Sizes, float]:
    """Bytes of weights on one rank of an engine, and of everything that it cannot start without but its weights: the
    workspace of a step, and keys and values of one full context.
    """
    width = 4 if dtype == "float32" else 2
    weights = facts.parameters * width / engine.tensor_parallel
    logits = 2 * 4 * (PROMPT_ROWS + engine.max_sequences) * facts.vocab
    workspace = GRAPHS + BATCHED_TOKENS * facts.hidden * 16 * width + logits
    context = max_context * facts.kv_bytes(width) / engine.tensor_parallel
    return {"weights": weights}, workspace + context


def learner_estimate(
    learner: LearnerConfig, ranks: int, dtype: str, facts: ModelFacts, *, head: bool = True, lora: int = 0
) -> Estimate:
    """Of one rank at the peak, see `learner_sizes`."""
    sizes = learner_sizes(learner, ranks, dtype, facts, head=head, lora=lora)
    return Estimate(bytes=sum(sizes.values()), text=_parts(sizes))


def frozen_model_estimate(config: Config, facts: ModelFacts, *, head: bool = True) -> Estimate:
    """Of a frozen model that scores. head: see `frozen_model_sizes`."""
    sizes = frozen_model_sizes(config, facts, head)
    return Estimate(bytes=sum(sizes.values()), text=_parts(sizes))


def engine_estimate(engine: EngineConfig, facts: ModelFacts, dtype: str, context: int) -> Estimate:
    """Of one rank of an engine. context: tokens of the longest sequence."""
    sizes, besides = engine_sizes(engine, facts, dtype, context)
    least = sum(sizes.values()) + besides
    bytes_of_context = max(1.0, context * facts.kv_bytes(4 if dtype == "float32" else 2) / engine.tensor_parallel)
    if engine.gpus:
        note = f", at least {least / GB:.2f} with a full context; the engine takes {engine.gpu_memory:.0%} of the GPU"
    else:
        sizes["KV cache"] = engine.kv_cache_gb * GB
        note = f" ({int(sizes['KV cache'] // bytes_of_context):,} full contexts)"
    return Estimate(bytes=sum(sizes.values()), text=_parts(sizes) + note, least=least, context=bytes_of_context)


def _parts(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {size / GB:.2f}" for name, size in sizes.items())
