r"""BAO: proactive agents that succeed with few interruptions, by taught behaviours and by penalties on behaviour.

## Paper
arXiv:2602.11351.

## Objective
A turn a_t either works on the world (A_e) or involves the user (A_u). Task reward R against user effort U = sum_t u_t,
u_t = [a_t in A_u]. With T the budget of turns and T' the turns completed, the shaped reward of turn t is::

    r'_t   = r_t - w u_t - lambda_ans u_t u_{t-1} - [t last] lambda_think [failed, T' < T] (T - T') / T'
    R2G'_t = sum_{k >= t} gamma^(k - t) r'_k
    A_{i,t} = (R2G'_{i,t} - mean) / (std + 1e-6)    over the rollouts of the group that have a turn t, 0 below two

on all tokens of the turn, in a clipped ratio loss (0.2) without KL. lambda_ans answers turning to the user again
without work on the world between, lambda_think answers thinking that eats the budget. In the configuration:
shaper.effort (w), answer, think, gamma, cap.

## Stages
teach (a teacher with behaviour instructions plays each gym, successes are kept), sft (all its turns), before, rl, after
(evaluate). A run needs rollout workers, the gyms and a learner; a served model or an endpoint for the teacher, and for
gyms whose user is a model. No critic, no reference.

Measures (stages.*.measures.effort): user involvement ur = sum of U / sum of T' over all episodes, Pass@U-k, turns, also
by gym; `raylign.recipes.bao.measures.pareto` says which of several policies no other dominates.

## Run it
    raylign train recipe=bao scale=tiny
    raylign train recipe=bao scale=gpu model.path=Qwen/Qwen3-4B environment.fn.path=functions.json
    raylign train recipe=bao scale=gpu model.path=Qwen/Qwen3-4B environment=turtle_gym \
        environment.fn.path=stories.json judges.user.path=Qwen/Qwen3-8B

The data are UserRL's (SalesforceAIResearch/UserRL, Apache-2.0): functions.json, all_stories_refined.json,
all_entities_refined.json. environment=function_gym | turtle_gym | telepathy_gym | user_gyms (all three); the gyms are
parts of the platform, for any recipe. Their user is a served model (judges.user), an endpoint (judges.user.endpoint) or
a script (`raylign.actors.environments.user_gyms.scripted.rule_user`). The teacher is judges.teacher: without a path the
policy's own start, told to behave.

Ablations: ``stages.teach=null stages.sft=null`` (no behaviour enhancement), ``stages.teach.view={}`` (a teacher without
instructions), ``shaper.answer=0 shaper.think=0`` (no regularisation), ``advantage.level=trajectory`` (one advantage for
an episode, from the sum of r'). The weight on effort alone, and the estimators of UserRL (trajectory: r2g | sum; turns:
equalized | r2g | em)::

    raylign train recipe=bao scale=tiny -m shaper.effort=0,0.05,0.1,0.2,0.4
    raylign train recipe=bao scale=tiny advantage.level=step advantage.std=none \
        'shaper={_target_: raylign.recipes.bao.UserRlCredits, trajectory: r2g, turns: equalized}'

An evaluation by another user, whose score over the training user's is the reward-translation rate::

    raylign train recipe=bao scale=gpu model.path=Qwen/Qwen3-4B environment=turtle_gym \
        environment.fn.path=stories.json +stages.shift._target_=raylign.recipes.stages.evaluate.Evaluate \
        +stages.shift.greedy=false '+stages.shift.environment=${environment.fn}' \
        stages.shift.environment.judge.model.name=examiner +judges.examiner.path=Qwen/Qwen3-8B

## Results
Paper, Function-Gym, 4B: score .69 at user involvement .21, UserRL .53 at .38, without regularisation involvement .91.
Measured (make experiment RECIPE=bao; all 32 claims hold). In tables, 16 seeds: penalties take involvement from .31 to
.13 and Pass@U-1 up by .53 for .004 of the score; a weight of .4 on effort alone leaves a score of .05, after a taught
prior .39; the prior saves .11 of involvement for .02 of the score. A tiny language model in the real gym, 3 seeds:
involvement .97 by UserRL's equalized credits, .81 with neither part, .38 taught by behaviour, .34 with penalties as
well (one turn in three is the least that solves this gym), Pass@U-1 .21, .19, .94, .99, all at scores of .997 and
more; penalties without teaching: .40 at a score of .93.

## Cost
Not published. scale=tiny: a few minutes on 2 cores.

## Deviations
- [inferred] lambda_ans .2, lambda_think .1, w 0 (unpublished), the cap of 1, the place of the thinking penalty, std and
  holders of A, success (Turtle: best score .9), which acts involve the user, 1,024 tokens a turn.
- u_{t-1} is that of the last turn that could be read: a broken turn between two answers is no work on the world.
  T' counts turns with an act of the game.
- A user or judge that is gone or twice unreadable ends the episode without a reward;
  environment.fn.failure_is_zero=true is the released code's 0.
- The call is described in the prompt, not by a tool's schema; observations come as the tool's messages.
- Training and held-out instances are split here, in UserRL's sizes (460/78, 423/48, 360/41).
- Travel, Tau, Search and Alfworld gyms need services of their own and are left out, as are Intention and Persuade.
- Prompts of user and judge are our own. The teacher of scale=tiny is a script.
"""

from __future__ import annotations

from raylign.recipes.bao.instructions import BehaviourInstructions
from raylign.recipes.bao.measures import UserEffort
from raylign.recipes.bao.shaper import BehaviourShaper
from raylign.recipes.bao.userrl import UserRlCredits

__all__ = ["BehaviourInstructions", "BehaviourShaper", "UserEffort", "UserRlCredits"]
