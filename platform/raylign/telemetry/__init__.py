"""Telemetry: metrics, events, rollouts, progress, optional sinks."""
