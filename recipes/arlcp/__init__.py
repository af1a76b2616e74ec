r"""ARLCP: trim needless reflection from reasoning traces, on correct answers only.

## Paper
arXiv:2602.12113 (ICLR 2026).

## Objective
For n answers of one prompt with reflection count R, tokens L and correctness C in {0, 1}::

    f_R = sigmoid((R - mu_R) / (sd_R + 1e-6))     mu, sd over the correct answers of the same prompt (n - 1)
    f_L = sigmoid((L - mu_L) / (sd_L + 1e-6))     one correct answer: sd = 1, hence f = 1/2
    r   = C (1 - a_R f_R - a_L f_L),  a_R + a_L = alpha = 0.2
    a_R = 0.05 if R <= 40, 0.10 if R <= 80, else 0.15     (the tier is the answer's own, not the prompt's)
    S_i = r_i - 0.001 sum_t (log pi_old - log pi_ref)     k1 charged in the reward
    A_i = S_i - mean_{j != i} S_j                         RLOO, the same on every token

A wrong answer scores 0 and a right one more than 0.8, so brevity never outranks correctness.

## Stages
rl; scale=tiny has sft on toy traces in front of it. A run needs rollout workers, a verifier behind the think-tag gate,
a frozen reference and a learner; no critic, no judge.

## Run it
    raylign train recipe=arlcp scale=tiny
    raylign train recipe=arlcp scale=gpu model.path=deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B data.path=deepscaler.jsonl

The 7B script takes stages.rl.eval_every=10 run.save_every=10, the 1.5B script runs three epochs (stages.rl.steps=930).
Baselines: shaper.split=length is TLMRE, shaper.split=reflection drops the length term, shaper.split=fixed the tiers,
shaper.alpha=0 everything but correctness. Any RL recipe takes the reward by
``shaper={_target_: raylign.recipes.arlcp.ReflectionPenalty}``.

## Results
The paper's 1.5B model answers 53 % shorter at +5.8 points of accuracy (mean of five benchmarks). At scale=tiny the
excess of reflections over what a task needs falls from 8.5 to 0.9 within 40 steps, the answer from 34 to 25 tokens,
while accuracy goes from .99 to .98 (seed 1). In this toy nearly every answer is right, so the run without the gate ends
alike (0.9, .98): what the gate is worth does not show here (`benchmarks/experiments/arlcp.py`).

## Cost
Paper: 8 GPUs, 128 x 16 samples of up to 16k tokens a step, about 310 steps. scale=tiny, with its supervised start:
about 6 CPU minutes; the experiment 9 to 10.

## Deviations
- The statistics come from the answers that the gate calls right. The released code also admits answers whose last box
  is right but whose think tags are not: ``shaper.pool=released`` does the same (it needs `ThinkGate`'s details).
- Groups are the samples of one prompt, never of equal text, so a prompt that occurs twice stays two groups.
- Equality of answers is the verifier's: `BoxedMath` by default, where the released code has the MATH family's
  normaliser and a sympy check of its own (reduced fractions to the letter, at most two unknowns).
- lr 2e-6 and batch follow the released scripts; `steps` is one epoch of DeepScaleR's 40k problems [inferred].
- Validation samples at .6 and top-p .95, 16 answers a prompt; the released scripts repeat only AIME and AMC 16 times.
- An evaluation's score is accuracy; the shaped reward is logged as ``arlcp/reward``.
- [inferred] scale=tiny: 0.1 million parameters (the digest: 1 to 5), one letter a token, no plain steps in the traces.
"""

from raylign.recipes.arlcp.shaper import ReflectionPenalty

__all__ = ["ReflectionPenalty"]
