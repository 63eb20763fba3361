"""The command line: the app, one file per command, and the tables that the commands print."""
