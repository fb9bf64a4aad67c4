"""Readers of the files in which other code writes its neurons, and which of their facts are facts of the study."""
