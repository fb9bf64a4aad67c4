"""From scores to neuron sets: uncertainty, thresholds, intersections, random controls. Arrays only, no model."""
