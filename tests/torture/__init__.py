"""Runs of a study that are killed, starved of disk, disturbed and resumed: `python -m tests.torture`."""
