"""The run folder, the checkpoint, which run is meant, and who may write."""
