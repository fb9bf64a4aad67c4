"""Knowledge Neuron Atlas: where language models keep facts, and what happens when the neurons found are changed."""
