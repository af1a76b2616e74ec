"""GRPO and its relatives on verifiable rewards: one loop, eight named objectives.

Papers      GRPO arXiv:2402.03300, Dr. GRPO 2503.20783, DAPO 2503.14476, RLOO 2402.14740, REINFORCE++ 2501.03262,
            PPO 1707.06347, GSPO 2507.18071, CISPO 2506.13585
Objective   maximise  E[ sum_t w_t min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) ],   r_t = pi(y_t) / pi_old(y_t)
            A from the scores of a prompt's G samples (GRPO: (R - mean) / std), w_t the global normalisation
Variants    variant=grpo | dr_grpo | dapo | rloo | reinforce_pp | ppo | gspo | cispo, each a few lines of conf/variant
Stages      scale=tiny: warmup (sft until a pass rate), before (evaluate), rl, after (evaluate); else before, rl, after
Needs       prompts with a verifiable answer (data.path, or data.task of reasoning-gym); rollout workers, a reward
            pool, a learner group; a critic with variant=ppo; a reference when a KL coefficient is not 0
Command     raylign train recipe=grpo scale=tiny
            raylign train recipe=grpo scale=gpu model.path=Qwen/Qwen3-1.7B data.path=gsm8k/train.jsonl
Expect      scale=tiny: two-digit addition from about .5 to about .8 held-out accuracy
Cost        scale=tiny: about 3 minutes on 2 cores, below 5 GB
Deviations  dapo: groups beyond the batch that dynamic sampling finds are dropped and counted, not carried over
"""
