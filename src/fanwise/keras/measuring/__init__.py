"""Run a Keras model forward and backward, and note what passes."""
