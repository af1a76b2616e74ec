"""Losses: what a learner minimises, as named components. One file per kind of loss."""
