"""Which start trains better: small tasks of many kinds, each trained from every start that fits."""
