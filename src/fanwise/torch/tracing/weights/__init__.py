"""Which parameter a tensor is, or is made of."""
