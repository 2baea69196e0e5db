"""Soak test: a team works while faults happen, and at the end nothing may be lost."""
