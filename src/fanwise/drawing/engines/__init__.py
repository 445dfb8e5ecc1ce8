"""What executes draws: a reference, the CPU's vector engine, the GPU's."""
