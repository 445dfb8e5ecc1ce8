"""Growing: from a small model's weights to a larger one's that computes the same function.

`axes` says which axes of a model's tensors hold the same units, `maps` which small unit each large
one copies, `alignment` which small layer each large one is, `weights` what the copies hold, and
`vocabulary` what the rows of new tokens hold. Front ends trace the axes and write the weights.
"""
