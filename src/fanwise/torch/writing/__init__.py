"""A planned model written to disk as it is drawn: no process holds it."""
