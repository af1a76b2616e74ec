"""GRPO and its relatives on verifiable rewards: one loop; an advantage and a loss by name.

## Paper
GRPO, arXiv:2402.03300. Each file of conf/variant names the paper of its own.

## Objective
    maximise  E[ sum_t w_t min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) ],   r_t = pi(y_t) / pi_old(y_t)

A comes from the scores of a prompt's G samples (`ADVANTAGE`), the clip is `LOSS`, w_t divides by the
tokens of the whole batch.
variant=NAME replaces advantage, loss or both by those of another paper; ``raylign recipes`` lists the variants.

## Stages
before (evaluate), rl, after (evaluate); scale=tiny has warmup (sft until a pass rate) in front of them.

A run needs prompts with a verifiable answer (data.path, or data.task of reasoning-gym), rollout workers, a reward pool
and a learner group; a critic with variant=ppo; a frozen reference when a KL coefficient is not 0.

## Run it
    raylign train recipe=grpo scale=tiny
    raylign train recipe=grpo scale=gpu model.path=Qwen/Qwen3-1.7B data.path=gsm8k/train.jsonl

## Results
scale=tiny: two-digit addition from about .5 to about .8 held-out accuracy.

## Cost
scale=tiny: about 3 minutes on 2 cores, below 5 GB.

## Deviations
variant=dapo: groups beyond the batch that dynamic sampling finds are dropped and counted, not carried over.
"""

from raylign.objectives.advantage.group import GRPO
from raylign.objectives.loss.policy import ClippedLoss

ADVANTAGE = GRPO  # A_i = (r_i - mean(r)) / (std(r) + epsilon)
LOSS = ClippedLoss  # l_t = -min(r_t A, clip(r_t, 1 - low, 1 + high) A)
