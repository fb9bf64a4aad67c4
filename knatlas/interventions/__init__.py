"""Changes to a model that are always undone: activations scaled, value vectors edited, chosen neurons fine-tuned."""
