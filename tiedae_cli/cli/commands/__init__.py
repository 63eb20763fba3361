"""One short file per command: parse, call the task, print. Slow imports stay inside the functions."""
