"""Reward actors: verifiers and the supervised pools that run them."""
