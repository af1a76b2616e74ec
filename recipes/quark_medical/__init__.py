r"""Quark Medical (MAP): many rewards of four categories on one scale, mixed by weakness, risk and redundancy.

## Paper
arXiv:2602.11661.

## Objective
The alignment matrix: fundamental capability (`Helpful`, `Facts`), expert knowledge (`Rubric`, `HashedOrm`), online
feedback (`Feedback`), format and safety (`Format`, `Safety`). Reference-Frozen Normalization, with mean and deviation
of every reward under the policy that training starts from, measured once::

    r~_k = clip((r_k - mu_k) / max(sigma_k, epsilon range_k), -c, c)          0: as good as the reference

Tri-factor weights, step by step; m_k, v_k, c_kj are averages (0.9) of the mean of r~_k, of the share of samples below a
reward's safety floor, and of the correlation of r~_k and r~_j within groups::

    F_k = exp(-(m_k - mean_j m_j) / T)    G_k = 1 + beta_k min(1, v_k / v_max)    H_k = 1 / (1 + sum_j max(0, c_kj))
    w_k <- 0.9 w_k + 0.1 K F_k G_k H_k / sum_j F_j G_j H_j, in [0.1, 5]           R = sum_k w_k r~_k

then GRPO on R with a KL (k3, weight 0.005) to the reference. The reward models::

    ORM     J = L_diff + lambda L_same, L_same = -E log sigma(m - |r_1 - r_2|) on ties       lambda 0.5, m 0
    facts   (supported - 2 contradicted) / assertions in [-1, 1]; -1 with a contradicted one of high risk
    rubric  (V - V_min) / (V_max - V_min), V = sum_g w_g S_g - w_pit S_pit, w = 2:1:1:2; truncation, saturation,
            activation, scaling (`raylign.recipes.quark_medical.rubric`)

An evaluation writes the table that closes the loop: every reward, the weakest first, with its metric, what it is
attributed to (factor, domain, what took points off, which reward says the same) and the weight that follows
(`stages/after/measures/diagnosis.jsonl`).

## Stages
sft (experts' answers), orm (a reward model of pairs and ties), feedback (fit), calibrate, rl, after (evaluate). A run
needs rollout workers, a judge, a frozen reference and a learner; no critic. scale=tiny makes its comparisons (graded)
and its evidence itself, and its ORM is a small network (fit).

## Run it
    raylign train recipe=quark_medical scale=tiny
    raylign train recipe=quark_medical scale=gpu model.path=Qwen/Qwen3-8B judges.judge.path=Qwen/Qwen3-32B \
        data.path=questions.jsonl stages.orm.data=pairs.jsonl stages.feedback.data=logs.jsonl \
        rewards.facts.fn.evidence=evidence.jsonl
    raylign train recipe=quark_medical scale=tiny -m stages.rl.shaper.mode=tri_factor,equal,raw,batch_z,group_z

Rows of questions.jsonl bring ``rubric`` (items: id, group, text, weight, and a tag, or each is its own), and if they
have them ``safety`` (largest dose, contraindications, emergency) and ``panel_mean``. Ablations of ``stages.rl.shaper``:
``factors.use=[weakness,risk]``, ``red_line=safety`` (a hard gate), ``scaling.domains=true`` (statistics by domain). The
printed tie loss: ``stages.orm.objective.tie_sign=printed``. `ReferenceFrozen` scores the rewards of any recipe, and
`HashedOrm` is a reward of any (`raylign.actors.reward.fitted.Fitted`).

## Results
The paper's abstract gives no number. Measured by `make experiment RECIPE=quark_medical`: on a bandit whose best answers
are unsafe (simulated, 10 seeds) the raw sum ends with .98 unsafe answers, equal frozen weights with .35, tri-factor
with .00; its least reward is .54 deviations above the reference, that of the raw sum 1.8 below. It costs .56 of the
answers' quality against equal weights. On PubMedQA the corrected tie loss halves the gap of ties at the same pair
accuracy (.90), the printed sign widens it. At scale=tiny with real actors (3 seeds) the least of seven rewards ends
at +.39 with tri-factor, at +.34 with equal frozen weights, and at -1.75 with the raw sum; unsafe answers .00 and .99
(raw sum).

## Cost
A step of 64 prompts asks the judge 512 times each for rubric and helpfulness, and once an assertion for facts.
scale=tiny: judges are programs, a few minutes on 2 cores.

## Deviations
- [inferred] All formulas of normalization and weights: the paper's text was not at hand, only its abstract and a
  review. So are c, epsilon, T, beta, v_max, the averages' 0.9, the weights' bounds, lambda, the aggregation of facts,
  the thresholds of the rubric, and what the online feedback is. The rubric's groups and weights are of a report of the
  same team (QuarkMedBench, arXiv:2603.13691).
- MEDIQA, the digest's real answers with grades, was not at hand; its part of the experiment runs where the files are.
  The ties and pairs of PubMedQA are made: halves of one abstract tie, another paper's abstract is worse.
- Assertions are the answer's sentences, without marks of lists and headings, not what a model makes of it.
- The safety rules go by words: a dose counts whatever is said of it, a warning governs its sentence and its list.
- The tie loss as printed pushes ties apart: it is the contrast, not the default.
- The rubric's printed denominator mixes signs: points count between the least and the most that can be had. Judges
  give grades, the points are added up here.
- Near scores (activation) become levels, each from its lowest score on: being near is not transitive.
- Correlations are of residuals within groups: between prompts all rewards rise and fall together.
- A reward that hardly varies under the reference has deviation epsilon times its range (1 where it does not vary), and
  an alarm says so.
- A missing reward leaves its sample without a score, as everywhere here; stages.rl.shaper.unmeasured=neutral counts it
  as the reference's mean, as the digest says.
- Groups of equal scores have advantage 0; no tiny deviation is divided by.
- The ORM of scale=tiny is a small network on hashed words, as is the model of feedback at any scale. The paper's ORM
  learns by LoRA and a curriculum; here from all pairs at once.
"""

from __future__ import annotations

from raylign.recipes.quark_medical.combiner import ReferenceFrozen
from raylign.recipes.quark_medical.diagnosis import Diagnosis
from raylign.recipes.quark_medical.facts import Facts
from raylign.recipes.quark_medical.helpful import Helpful
from raylign.recipes.quark_medical.pairwise import Feedback, HashedOrm
from raylign.recipes.quark_medical.rubric import Rubric
from raylign.recipes.quark_medical.rules import Format, Safety

__all__ = [
    "Diagnosis",
    "Facts",
    "Feedback",
    "Format",
    "HashedOrm",
    "Helpful",
    "ReferenceFrozen",
    "Rubric",
    "Safety",
]
