"""DeepSpeed settings and the learning rate of a step, from the learner's configuration."""

from __future__ import annotations

import math
from typing import Any

from raylign.config.schema import LearnerConfig, Offload, OptimConfig, Schedule


def learning_rate(optim: OptimConfig, step: int, total_steps: int) -> float:
    """The rate of optimiser step `step` (from 0).

    Linear warm-up reaches `lr` at the last warm-up step, so that no step has rate 0. Linear and cosine then fall from
    `lr` to ``min_lr_ratio * lr``, reached at the last step; constant stays.
    """
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    if optim.schedule is Schedule.constant:
        return optim.lr
    span = total_steps - 1 - optim.warmup_steps
    progress = min(max((step - optim.warmup_steps) / span, 0.0), 1.0) if span > 0 else 1.0
    shape = 1.0 - progress if optim.schedule is Schedule.linear else 0.5 * (1.0 + math.cos(math.pi * progress))
    return optim.lr * (optim.min_lr_ratio + (1.0 - optim.min_lr_ratio) * shape)


def effective_stage(config: LearnerConfig, dtype: str) -> int:
    """The ZeRO stage that runs: in bf16 at least 2.

    Stage 0 keeps no fp32 master weights there, and stage 1 keeps bf16 and fp32 gradients of all parameters on every
    rank: 8 + 12/N bytes a parameter where stage 2 takes 2 + 16/N.
    """
    return max(config.zero_stage, 2) if dtype == "bfloat16" else config.zero_stage


def deepspeed_config(config: LearnerConfig, dtype: str) -> dict[str, Any]:
    """DeepSpeed's settings. Micro-batches are accumulated by the worker, so DeepSpeed counts one per step.

    bf16 keeps fp32 master weights and accumulates and reduces gradients in fp32. An offloaded optimiser is
    PyTorch's own fused AdamW on the CPU: the same update as DeepSpeed's, without a C++ build at the first start.
    """
    stage = effective_stage(config, dtype)
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": config.gpus > 0}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if config.offload is Offload.cpu and stage > 0:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": config.gpus > 0}
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.optim.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": None,
    }
    if dtype == "bfloat16":
        settings["bf16"] = {"enabled": True, "check_grad_overflow": True}
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
        settings["communication_data_type"] = "fp32"
    return settings
