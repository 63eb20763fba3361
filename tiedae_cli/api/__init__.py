"""What a notebook calls: train, load, and the trained model."""
