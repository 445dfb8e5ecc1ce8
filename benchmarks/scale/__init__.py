"""Models that no one device holds: bits, memory, time of W ranks; to disk; many ranks."""
