"""Ray actors: rollout engines, reward pools, learner groups, frozen."""
