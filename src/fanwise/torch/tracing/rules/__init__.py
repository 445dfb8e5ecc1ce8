"""What each kind of operation makes of data: a file a kind, with the facts of its operations."""
