"""TSR: search inside training rollouts, ordinary PPO or GRPO on what it finds (arXiv:2602.11767).

Rollout    per instance L = 16 trajectories; every turn the policy proposes M candidates a ~ pi(.|tau), each is tried in
           a fork of the environment and scored, S(tau, a, o), and the best prefixes by cumulative S go on:
               beam       B_{t+1} = Top_B { tau + a }, M = 4, B = 2; the top prefix is the trajectory
               lookahead  S(a) + max over 4 sampled continuations of D = 2 turns, argmax
               best_of_n  the best of N whole episodes
Filter     the max(int(p P), 1) of P = 8 groups with the largest std of R over their trajectories, p = 0.25.
Objective  unchanged: PPO with GAE, gamma = lambda = 1, R = sum_t r_t at the last token; clip 0.2 / 0.28, entropy 0.001,
           no KL. Evaluations never search, at temperature 0.5.
Stages     rl, after; scale=tiny: warmup (random play in a compact format) first.
Needs      rollout workers, an environment that can be forked, learner, critic (none with GRPO). No judge, no reference.

Command    raylign train recipe=tsr scale=tiny
           raylign train recipe=tsr scale=gpu model.path=Qwen/Qwen2.5-0.5B-Instruct
Play in    environment=sokoban | frozen_lake | webshop: the environment with its limits, scorer and noise
Search     search=beam | lookahead | best_of_n | naive, and the forms of the released code, which differ from the paper:
           code_bon (32 -> 16 of a group), code_beam1 (M = 4, B = 1, raw reward, illegal turns out), code_spread (no
           search; after the filter the half of a group farthest from its mean and one more)
GRPO       'advantage={_target_: raylign.objectives.advantage.group.GRPO}'
Elsewhere  rollout.strategy._target_ and selector._target_ bring a search and a selector to any recipe with
           an environment

Bias       Kept trajectories are no samples of pi and are treated as if they were, deliberately. Old log-probs are the
           learner's own, recomputed before the update (objective.old_logprob=recompute), so every ratio starts at 1.
           objective.mismatch.mode=truncate corrects for the engine's log-probs; nothing corrects for the selection.
Chance     Simulations meet fresh chance, averaged over rollout.strategy.simulations, wherever an environment has any.
           noise=live is what replaying with the episode's own seed amounts to: clairvoyant, returns flattered. Logged:
           search/gap, a simulation's score minus what came of it (0 for live; zero mean for fresh), and
           search/optimism, the same for the score that the turn was chosen for.
Expect     paper: up to +15 points of success; experiment, area of 40 updates, beam - naive: .28 .16 .11 .00 .11
Cost       paper: 3 to 4 times the compute of plain rollouts; logged as search/*_kept and search/*_discarded (env calls,
           tokens, per trajectory) and select/*_kept and *_discarded (groups, trajectories, tokens, per step).

Deviations The scores of FrozenLake and WebShop are inferred (`raylign.actors.rollout.scores`). A turn that is chosen is
           lived through once more in the episode's environment, so a beam calls it M + 1 times a turn (and one more
           time for the probe of search/gap under fresh noise). Whole groups make minibatches; packing needs no batch
           adjuster, the batch is neither padded nor cut: 2 groups of 16 are one minibatch of 32, as in the released
           code. Instances are drawn once (data.size seeds from 10000) and visited in epochs. GRPO settings, steps of
           the evaluation: [inferred]. WebShop is a synthetic catalogue (environment.fn.goals_file takes real
           instructions).
"""

from typing import Any

__all__ = ["WarmUp"]


def __getattr__(name: str) -> Any:
    """The stage, imported when it is asked for: it brings Ray, vLLM and DeepSpeed with it."""
    if name == "WarmUp":
        from raylign.recipes.tsr.warm_up import WarmUp

        return WarmUp
    raise AttributeError(name)
