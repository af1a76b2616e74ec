"""Hydra configuration group."""
