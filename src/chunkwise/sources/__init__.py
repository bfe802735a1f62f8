"""Room 2: where items start."""
