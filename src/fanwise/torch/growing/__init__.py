"""Growing PyTorch models: the axes of their tensors, new layers, vocabularies, the check."""
