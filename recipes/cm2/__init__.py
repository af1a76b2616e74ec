r"""CM2: multi-turn tool use, judged item by item against per-turn checklists, in a simulated environment.

## Paper
arXiv:2602.12268.

## Objective
Turn t of a dialogue has yes/no items c with weights w_c (sum 1) and dependencies Dep_c. A judge labels every open item
after every step s; Sat_c(x_s) is whether item c is satisfied before step s::

    r_{t,s,c} = [all of Dep_c satisfied in x_s] [Sat_c(x_s) = 0] [Sat_c(x_{s+1}) = 1]                        (eq. 1)
    R_i       = (1 / L_ref) sum_t sum_s sum_c w_c r_{t,s,c}      in [0, 1], L_ref turns of the reference
    trajectory:  A_i     = R_i - mean_G R                        no std                                    (eq. 4-5)
    turn:        A_{i,t} = R_{i,t} - mean over the rollouts that reached turn t; 0 for fewer than 5          (eq. 6-7)
    step:        A_{i,t,s} = sum_{c in E} w_c (r~_{t,s,c} - b_c) / sum_{c in E} w_c                         (eq. 8-10)
                 E: items the step could earn, r~: some step from s on satisfied it, b_c: share of rollouts that did

The user's further messages are those of the record. They come only while every must-pass item of the turn was satisfied
(with several checklists a turn: unless more than half object), otherwise the dialogue ends and its missing turns pay 0.
Tools answer from the record, after that from a simulator. A rollout whose judge or simulator failed leaves its group.

## Stages
sft (all assistant turns of the demonstrations), rl. A run needs rollout workers, a tool environment, judge and
simulator (one served model), a reward that adds up the labels, a frozen reference and a learner; no critic.

## Run it
    raylign train recipe=cm2 scale=tiny
    raylign train recipe=cm2 scale=gpu model.path=Qwen/Qwen3-8B-Base judges.judge.path=Qwen/Qwen3-32B \
        data.generator.path=dialogues.jsonl

A judge that is served elsewhere: ``judges.judge.endpoint=http://… judges.judge.path=NAME``.

Levels: ``advantage.level=trajectory|turn|step`` with ``shaper.level`` the same. The paper reports that finer levels
learn faster and then collapse; its final choice, and the default here, is the trajectory.

Contrasts: ``satisfied=literal`` or ``code`` (three places, see the YAML), ``environment.fn.examiner.gate=false``.
`ToolDialogue`, `ChecklistExaminer`, `TurnAdvantage` and the judges are parts of the platform, for other recipes too.

## Results
The paper's Qwen3-8B-Base rises from 18.6 to 26.8 on tau2 (mean of three), from 19.4 to 36.5 on BFCL-V4 multi-turn and
from 56.2 to 68.2 on ToolSandbox. At scale=tiny the held-out checklist reward rises by at least 0.15 from about a half,
and by 0.08 with a tenth of the labels flipped (`benchmarks/experiments/cm2.py`).

## Cost
Paper: 64 GPUs, 680 hours. scale=tiny: a few minutes on 2 cores.

## Deviations
- ``satisfied=gated`` (default): a label counts from the first step at which it is true and the item's dependencies held
  before. As printed (``literal``) an item that was labelled too early never pays; the released code (``code``) looks at
  no dependency at turn and trajectory level.
- L_ref is the number of annotated turns for every rollout, as in the released code; the paper prints each one's own.
- Level turn compares undivided turn rewards (the code divides by L_ref, which only scales them).
- An unknown tool ends the dialogue and is scored by what was reached. The released code drops the sample, which would
  let a policy escape its score.
- Failed rollouts leave the group at every level; the released trajectory mode keeps them with reward 0.
- Items are judged after every step and not at the turn's end: the same questions, and no turn is left unjudged when a
  rollout runs out of tokens. Satisfied items, and in gated mode items that could not count yet, are not asked about.
- Prompts of judge and simulator are our own. Filtering, compression and annotation by a large model are data work
  before a run; `records` reads annotated dialogues. Tag tokens are not given new embeddings.
"""

from __future__ import annotations

from raylign.recipes.cm2.reward import ChecklistLevels, ChecklistScore

__all__ = ["ChecklistLevels", "ChecklistScore"]
