"""Learner actors: DeepSpeed ranks behind one algorithm-blind interface."""
