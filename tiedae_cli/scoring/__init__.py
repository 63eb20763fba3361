"""How anomalous an item is: rankers, thresholds, labels and reasons."""
