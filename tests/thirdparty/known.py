"""What third-party models are known to miss, and why: asserted as it stands."""

KNOWN: dict[str, dict[str, str]] = {}
"""By model, as ``"package: name"``: the checks it misses, each with the reason."""
