"""What each primitive makes of data and parameters: a file a kind, registered by its name."""
