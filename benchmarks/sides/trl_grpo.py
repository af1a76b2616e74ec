"""TRL's GRPOTrainer on CPU: one process, all cores, one line of JSON a step on standard output.

Run by `step_vs_trl.py` with the same model folder, prompts and numbers as our side; generation is transformers' own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.sides.tasks import share_of_vowels_trl


class Steps(TrainerCallback):
    """Prints wall and CPU seconds of every optimiser step, generation included."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), _cpu()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Called by the trainer."""
        wall, cpu = time.perf_counter(), _cpu()
        sys.stdout.write(json.dumps({"wall": wall - self.wall, "cpu": cpu - self.cpu}) + "\n")
        sys.stdout.flush()
        self.wall, self.cpu = wall, cpu


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


def main() -> None:
    """Train for a few steps."""
    parser = argparse.ArgumentParser()
    for name in ("model", "rows", "output"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("prompts", "group", "max-tokens", "steps", "micro-batch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    with open(args.rows) as stream:
        rows = [{"prompt": [{"role": "user", "content": json.loads(line)["prompt"]}]} for line in stream]
    samples = args.prompts * args.group
    config = GRPOConfig(
        output_dir=args.output,
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=args.micro_batch,
        gradient_accumulation_steps=samples // args.micro_batch,
        num_generations=args.group,
        max_completion_length=args.max_tokens,
        max_steps=args.steps,
        learning_rate=1e-5,
        beta=0.0,
        temperature=1.0,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=share_of_vowels_trl,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[Steps()],
    )
    trainer.train()


if __name__ == "__main__":
    main()
