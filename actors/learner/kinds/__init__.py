"""Forward kinds: what a learner's model computes for a loss token."""
