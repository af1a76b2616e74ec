"""Tools for policies: how a call is read from text, checked against its schema, and answered."""
