"""What people see and pipelines read: the terminal, rows of numbers, pictures."""
