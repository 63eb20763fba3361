"""What a person types: the app, one file a command, and the tables that it prints."""
