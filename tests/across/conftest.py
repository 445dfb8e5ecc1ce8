"""Keras's models are imported in processes of their own: see tests/with_keras."""

collect_ignore = ["keras_models.py", "look_keras.py"]
