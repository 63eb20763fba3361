"""The machine: devices and processes, durable files, locks, caches, signals, random streams."""
