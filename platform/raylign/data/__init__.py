"""Prompts: readers, procedural tasks, sources."""
