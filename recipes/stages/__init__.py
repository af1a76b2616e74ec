"""Stages: ordered steps of a recipe."""
