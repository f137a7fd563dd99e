"""Recording outcomes, and replaying them through other policies."""
