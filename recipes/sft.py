"""Supervised fine-tuning: cross-entropy on the target text of each prompt.

## Paper
None of its own; it is the first step of InstructGPT (arXiv:2203.02155, section 3.5) and of most recipes here.

## Objective
    minimise  -(1 / N) sum_i sum_t log pi(y_it | x_i, y_i<t)      over the N target tokens of a batch

## Stages
sft. It needs rows with a completion (TRL, GSM8K, OpenRLHF or plain columns), or a procedural task's own answers.

## Run it
    raylign train recipe=sft scale=tiny data.path=rows.jsonl

## Results
loss/ce falls. stages.sft.stop_at ends the stage at a sampled pass rate instead of a step count.

## Cost
scale=tiny: about 80 ms a step of 64 short rows on one core.

## Deviations
The mean is over the target tokens of a batch; trainers that average rows first give short targets more weight.
"""
