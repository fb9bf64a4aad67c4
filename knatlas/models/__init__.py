"""Which modules of an architecture hold the neurons, loading, the embedded models, and P(answer)."""
