"""Trace a Keras model on symbolic tensors: how it uses each variable."""
