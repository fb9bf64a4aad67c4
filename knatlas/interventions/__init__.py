"""Changes to a model that are always undone: activations suppressed or enhanced."""
