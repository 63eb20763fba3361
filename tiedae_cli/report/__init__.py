"""What ``report`` does: gathers what a page tells of one or several runs, and the model that lives in it."""
