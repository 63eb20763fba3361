"""What each command does, given plain arguments."""
