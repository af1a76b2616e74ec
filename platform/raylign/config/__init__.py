"""Typed configuration: schema, composition, building of parts, validation."""
