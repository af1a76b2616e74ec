"""The two sides of a comparison."""
