"""Composition-RL: chain verifiable prompts that are solved already, and train on the chains.

## Paper
arXiv:2602.12036. Compose((q1, gt1), (q2, gt2)) = (q12, gt2): a number v1 is read off gt1 by rule and defined in words
as X, a number v2 in the text of q2 becomes Y, and the sentence "Y is delta more than X", delta = v2 - v1, joins them.
Solving q12 takes solving q1, the link and q2; the rule verifier of q2 still grades it. SPC(q1..qK) = Compose(q1,
SPC(q2..qK)). D_hat_CK: 20 fresh random candidates for every k < K and every q_K of the data set; all of both are used.

## Objective
    J = E[ 1 / sum_i |r_i|  sum_i sum_t w_t min(rho_it A_i, clip(rho_it, 1 - eps, 1 + eps) A_i) ],
    A_i = (v_i - mean v) / std v over G = 8 rollouts, v in {0, 1}, eps = 0.2, no KL;
    w_t = min(pi_old / pi_rollout, 2), detached. Dynamic sampling keeps 0 < mean v < 1.

## Stages
before, rl, after (evaluation by depth); scale=tiny: warmup (sft on seeds and some chains) first. A run needs prompts
with a verifiable answer, rollout workers, a rule verifier, a learner. No critic; a reference only with a KL
coefficient. Chains come from `SymbolicComposer` (rules, no model) or `LlmComposer` (eleven steps): from a stage
`Generate` with the composer model as the policy, and three parts of its own (the fifth command).

## Run it
    raylign train recipe=composition_rl scale=tiny
    raylign train recipe=composition_rl scale=node model.path=Qwen/Qwen3-4B-Base data.path=math12k.jsonl
    raylign train recipe=composition_rl scale=tiny stages.rl.eval_every=10 stages.rl.eval_split=train \\
        'source.curriculum={depths: [1, 2, 3], trigger: either}'
    raylign train recipe=composition_rl scale=tiny \\
        '+stages.screen={_target_: raylign.recipes.stages.generate.Generate, samples: 8}' \\
        '+stages.screen.keep={_target_: raylign.recipes.stages.keep.PassRate, at_least: 1}'
    raylign train recipe=composition_rl scale=node model.path=Qwen/Qwen2.5-32B-Instruct data.path=math12k.jsonl \\
        '~stages.before' '~stages.rl' '~stages.after' rollout.sampling.temperature=0.1 rollout.sampling.top_p=0.7 \\
        'stages.compose={_target_: raylign.recipes.stages.generate.Generate, weights: {}, batch_prompts: 1024}' \\
        'stages.compose.view={_target_: raylign.recipes.composition_rl.ChainsToCompose}' \\
        'stages.compose.strategy={_target_: raylign.recipes.composition_rl.ComposeRollout}' \\
        'stages.compose.keep={_target_: raylign.recipes.composition_rl.ComposedChains}' rollout.sampling.max_tokens=4096

The third is a curriculum of depths. The fourth keeps the seeds solved at least once in 8 (the paper's physics pool;
at_least=8: always). The fifth makes a set with a model, saved after every 1,024 chains; source.path=FILE trains on what
it leaves in stages/compose/rows.jsonl of its run. source.first_domain and last_domain compose across domains;
source.mode=online composes what all rollouts of this run have solved; source.linked=false is plain concatenation;
source.first_size=500 source.last_size=500 are small seed sets. Any RL recipe takes chains by
``source={_target_: raylign.recipes.composition_rl.CompositionSource}``.

## Results
Paper, Qwen3-4B: overall 28.1 on MATH12K, 31.4 on 199K compositions, 34.4 with depth 1 then 2, 36.4 then 3. Measured
(make experiment RECIPE=composition_rl), mean of 3 seeds, arms of 50 steps from one warm model: depth 2 .55 at first;
.54 after the seeds alone, .66 after chains, .52 after pairs without a link; depth 1 stays 1.00; solved by all: .99 of
the seeds (batches .03 full), .38 of the chains (.97 full); v1, never rewarded, is recovered in .62 -> .71 of rollouts.

## Cost
Paper: 256 x 8 rollouts of up to 16k tokens a step. scale=tiny: 3 to 5 minutes on 2 cores; the experiment 25.

## Deviations
- The link is always "more" with a signed delta (VCMD writes "less" for negative ones). The symbolic composer drops a
  pair rather than guess: numbers that stand twice, shared symbols, drawings.
- The step-10 verdict of the LLM pipeline filters, as the paper says; the released code only counts it. [inferred] by
  name: eps, correction cap, curriculum triggers, `slots` (which chains D_hat_C3 holds).
"""

from importlib import import_module

from raylign.recipes.composition_rl.composers import Composer, SymbolicComposer
from raylign.recipes.composition_rl.source import CompositionSource, FixedChains
from raylign.recipes.composition_rl.toy import Digits, MarkedAnswer

__all__ = ["Composer", "CompositionSource", "Digits", "FixedChains", "MarkedAnswer", "SymbolicComposer"]
LAZY = {"ChainsToCompose": "composing", "ComposedChains": "composing", "ComposeRollout": "rollout", "WarmUp": "warm_up"}


def __getattr__(name: str) -> type:
    """What brings Ray, vLLM and DeepSpeed with it is imported when it is asked for."""
    if name not in LAZY:
        raise AttributeError(name)
    part: type = getattr(import_module(f"{__name__}.{LAZY[name]}"), name)
    return part
