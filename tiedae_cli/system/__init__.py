"""The machine: devices and processes, durable files, locks and caches, signals, random streams."""
