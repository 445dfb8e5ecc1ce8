"""Reports: read plans and signals, and decide nothing."""
