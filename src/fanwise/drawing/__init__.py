"""From a draw, a seed and a name to numbers in memory, the same bits everywhere."""
