"""Exhaustive exploration, models and simulations."""
