"""The experiment trackers, one per file; each file has the name that `output.trackers` uses."""
