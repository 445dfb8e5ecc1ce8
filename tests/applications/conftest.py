"""Keras keeps the backend that it is imported with, and TensorFlow keeps Triton out."""

collect_ignore = ["harness.py"]
