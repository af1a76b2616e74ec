"""TSR: search inside training rollouts, and ordinary PPO or GRPO on the trajectories that it selects.

## Paper
arXiv:2602.11767.

## Objective
That of PPO, unchanged; the reward of an episode, R = sum_t r_t, stands at its last token::

    maximise  E[ min(rho_t A_t, clip(rho_t, 0.8, 1.28) A_t) + 0.001 H_t ],   A_t by GAE with gamma = lambda = 1, no KL

Rollouts: L = 16 trajectories of each instance. Every turn the policy proposes M candidates a ~ pi(.|tau), each is tried
in a fork of the environment and scored, S(tau, a, o), and the best prefixes by cumulative S go on:

    beam       B_{t+1} = Top_B { tau + a }, M = 4, B = 2; the top prefix is the trajectory
    lookahead  S(a) + max over 4 sampled continuations of D = 2 turns, argmax
    best_of_n  the best of N whole episodes

Filter: the max(int(p P), 1) of P = 8 groups with the largest std of R over their trajectories, p = 0.25. Evaluations
never search and sample at temperature 0.5.

Bias: the kept trajectories are not samples of pi and are treated as if they were, deliberately. Old log-probs are the
learner's own, recomputed before the update (objective.old_logprob=recompute), so every ratio starts at 1.
objective.mismatch.mode=truncate corrects for the engine's log-probs; nothing corrects for the selection.

Noise: simulations get fresh random numbers, averaged over stages.rl.strategy.simulations, wherever an environment has
any. noise=live replays the episode's own seed: the search sees the future, and returns are flattered. Logged:
search/gap, a simulation's score minus that of the step then taken (0 for live; zero mean for fresh), and
search/optimism, the same for the score that the turn was chosen for.

## Stages
rl, after (evaluate); scale=tiny has warmup (random play in a compact format) in front of them. A run needs rollout
workers, an environment that can be forked, a learner and a critic (none with GRPO); no judge, no reference.

## Run it
    raylign train recipe=tsr scale=tiny
    raylign train recipe=tsr scale=gpu model.path=Qwen/Qwen2.5-0.5B-Instruct
    raylign train recipe=tsr scale=tiny 'advantage={_target_: raylign.objectives.advantage.group.GRPO}'

environment=sokoban | frozen_lake | webshop chooses the environment with its limits, score and noise. search=beam |
lookahead | best_of_n | naive chooses the search; the forms of the released code, which differ from the paper, are
code_bon (32 -> 16 of a group), code_beam1 (M = 4, B = 1, raw reward, illegal turns out) and code_spread (no search;
after the filter the half of a group farthest from its mean and one more). stages.rl.strategy and
selector._target_ bring a search and a selector to any recipe with an environment.

## Results
Paper: up to +15 points of success. Measured (make experiment RECIPE=tsr, 5 seeds): mean success over 40 updates, with a
beam less without a search: .28 .18 .04 .01 .10; three seeds gain the .05 that the digest wants of four.

## Cost
Paper: 3 to 4 times the compute of plain rollouts. Logged as search/*_kept and search/*_discarded (environment calls
and tokens, per trajectory) and select/*_kept and *_discarded (groups, trajectories, tokens, per step).

## Deviations
- The scores of FrozenLake and WebShop are inferred (`raylign.actors.rollout.scores`).
- A chosen turn is carried out once more in the episode's environment, so a beam calls it M + 1 times a turn (and one
  more time for the probe of search/gap under fresh noise).
- Whole groups make minibatches. Packing needs no batch adjuster, the batch is neither padded nor cut: 2 groups of 16
  are one minibatch of 32, as in the released code.
- Instances are drawn once (data.size seeds from 10000) and visited in epochs.
- WebShop is a synthetic catalogue (environment.fn.goals_file takes real instructions).
- [inferred] GRPO settings, steps of the evaluation.
"""

from typing import Any

__all__ = ["WarmUp"]


def __getattr__(name: str) -> Any:
    """The stage, imported when it is asked for: it brings Ray, vLLM and DeepSpeed with it."""
    if name == "WarmUp":
        from raylign.recipes.tsr.warm_up import WarmUp

        return WarmUp
    raise AttributeError(name)
