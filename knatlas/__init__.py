"""Knowledge Neuron Atlas: where language models keep facts, and what happens when the neurons found are changed."""

import gc

# Imports make hundreds of thousands of objects that stay, and the collector would walk them again and again: a tenth of
# the start of a job that runs a model. It waits here until a job has put them aside.
COLLECTOR_THRESHOLD = gc.get_threshold()
gc.set_threshold(50_000)
