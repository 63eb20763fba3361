"""One short file a subcommand: parse, call the core, print. What is slow to import is imported inside the functions."""
