"""Explaining and simulating policies."""
