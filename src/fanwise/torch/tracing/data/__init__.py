"""What a run has found out about each tensor: where it comes from, or its value."""
