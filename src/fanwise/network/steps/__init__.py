"""Steps: each with the equation of its moments, forward, and of the gradient's, backward."""
