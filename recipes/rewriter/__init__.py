r"""Rewriter: a LoRA policy rewrites experts' solutions before SFT, so that tuning on them makes the model forget less.

## Paper
arXiv:2602.11220.

## Objective
pi_0 is the frozen base model, R_phi = pi_0 + LoRA. For a question x with an expert's solution y*, K rewrites
ytilde_i ~ R_phi(. | rewriting prompt of x and y*)::

    t_i   = v_ans v_rea                      v_ans: the final answer is the gold one; v_rea: p(YES) >= p(NO) under pi_0
    l_i   = -1 / |ytilde_i| sum_t log pi_0(ytilde_i,t | x, ytilde_i,<t)      the sampled ids, after the bare question
    S+    = {i : t_i = 1},  m = |S+|
    r_dist(i) = 1 / (1 + exp((l_i - mean l) / (std l + 2 eps)))              over S+; 0 where l_i is not finite
    r_div(i)  = max(0, D(S+) - D(S+ without i)),  D: mean of (1 - cos) / 2 over pairs of embeddings
    r_i   = t_i + t_i (0.35 r_dist(i) + 0.5 r_div(i))

then GRPO, A_i = (r_i - mean r) / (std r + eps), with a KL loss (k3, weight 0.001) to the model that the stage starts
from. The group is rewarded in one call: alone, a sample's bonus would be a constant, and is refused.

The rewriter rewrites the training set greedily; what passes the gate is the target, what fails leaves y* (`Generate`,
otherwise=target). Ordinary SFT of pi_0, all weights, runs on the result. Forgetting is the base model's score less the
tuned one's, task by task (`Tasks`, `Forgetting`).

## Stages
general_before, downstream_before (evaluate the base), rewrite (rl, LoRA), build (generate), sft (from the base),
downstream, general (evaluate). scale=tiny has base and warm (sft) too. A run needs rollout workers, the base model
served as judge `base` (scores, yes/no, vectors), a frozen reference and a learner; no critic.

## Run it
    raylign train recipe=rewriter scale=tiny
    raylign train recipe=rewriter scale=gpu model.path=meta-llama/Llama-3.2-3B-Instruct data.path=numina.jsonl \
        data.prompt_key=question data.answer_key=answer stages.general_before.data=general.jsonl
    raylign train recipe=rewriter scale=tiny rewards.rewrite.fn.diversity=0

Rows bring a question and a solution with a box or a number in it (others are left out, and counted). Rows of
general.jsonl are read alike, and one that states no answer is the answer; `data.domain_key` names their task. The third
command leaves diversity out. Other switches: ``rewards.rewrite.fn.distribution=0``,
``rewards.rewrite.fn.soft_gate=0.1``, ``stages.rewrite.group_size=5`` (the released launcher's K),
``rewards.gate.fn.reasoning={}`` (the answer alone decides), and for the build alone, as released,
``stages.build.weights={correct: 1}``. ``rewards.rewrite.fn.embedder`` is one of `raylign.actors.embed`; the paper's
kind is sentence-transformers with Qwen3-Embedding. `Gate` and `RewriteReward` are rewards of any recipe, with any
verifier.

## Results
Paper, Llama-3.2-3B: mathematics 18.9 (base), 21.81 (SFT on experts), 21.12 (rewriter); general tasks 45.21, 37.26,
43.17. Forgetting falls by 12.34 % over three base models.
Measured at scale=tiny with real actors (make experiment RECIPE=rewriter, 4 seeds from one base model; all 25 claims
hold): in RL the share of rewrites that pass the gate goes from .82 to .97 (samples of held-out prompts). SFT on the
rewritten set solves .93 more of the new task than the base (on the experts' texts .54, on an untrained rewriter's set
.58) and forgets .04, .01, .00, .01 of the general tasks by seed; on the experts' texts .55, .53, .55, .52, on the
untrained rewriter's set .32, .16, .15, .20. RL finds the base model's own format (.3 nat a token under the base,
experts' 11). **Bases differ**: this one is seed 1's, with which the steps of SFT had been chosen. With a base of each
seed's own, before, two of four rewriters stayed with the experts' format, wholly or in part, and what was built of it
was forgotten over like theirs (.03, .04, .43, .27; experts' .49, .41, .88, .29).

## Cost
A step of 504 prompts scores 5,040 rewrites once and their experts' solutions once, asks 2 words of each right one, and
embeds what passes: forward passes of the base model, nothing is generated. scale=tiny: a few minutes on 2 cores.

## Deviations
- [inferred] The exact prompts (rewriting; yes/no), the soft gate (r = w t + both bonuses of all samples), the rate and
  batch of SFT, which general tasks are measured.
- Vectors are mean last hidden states of the base model, as in the released code; the paper says a Qwen embedding model.
- Answers are compared by the platform's verifier, which knows 1/2 and 0.5 for the same; the paper compares texts. Boxes
  are read with their braces matched. The gold answer is the last box of the solution, as the verifier reads rewrites
  (the released code takes the first of both), else what it calls the answer, else its last number: the run says of how
  many rows.
- The built set has the rows that could be asked: not those without an answer, nor, with ``view.max_tokens``, longer
  ones; of a question with several solutions the first is rewritten, and all are kept where that fails. All are counted.
- At scale=tiny the KL is to the warmed-up model that RL starts from, not to pi_0 (stages.rewrite's reference).
- A reward without the base model is missing, never 0. A YES or NO of several tokens is refused before work; in the
  released code no rewrite then passes.
- A loss that is not finite, or has no room in 4,096 tokens, leaves mean and deviation [inferred].
- The end of the turn is scored with the text. The gate is the full one in the build, too; the released builder has the
  answer's alone.
- scale=tiny: the check of reasoning is a program; pi_0 is a model that imitates four general tasks and sums, and the
  rewriter is warmed up on right rewrites in three formats alike.
"""

from __future__ import annotations

from raylign.recipes.rewriter.forgetting import Forgetting, Tasks
from raylign.recipes.rewriter.gate import Gate
from raylign.recipes.rewriter.prompts import Rewriting, Solutions
from raylign.recipes.rewriter.reward import RewriteReward
from raylign.recipes.rewriter.shaper import RewriteShaper
from raylign.recipes.rewriter.yes_no import YesNo

__all__ = ["Forgetting", "Gate", "RewriteReward", "RewriteShaper", "Rewriting", "Solutions", "Tasks", "YesNo"]
