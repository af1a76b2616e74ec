"""The exploit audit: a seeded share of all samples is graded apart from training; start at `raylign.audit.auditor`."""
