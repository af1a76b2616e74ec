"""Objectives: advantage estimators, losses and their normalisation; no Ray, no DeepSpeed."""
