"""How fast a fill is, and what it costs besides: fanwise and its peers."""
