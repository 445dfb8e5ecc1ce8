"""PyTorch's ATen operations: what is known of each, its arithmetic, and how it moves axes."""
