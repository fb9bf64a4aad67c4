"""Where facts and prompts come from, one module per source, and how prompts are built for each kind of model."""
