"""One module per experiment: neuron sets and prompts in, a tidy table out."""
