"""Intervals over facts."""
