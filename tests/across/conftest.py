"""Keras's models are imported in processes of their own: see tests/with_keras."""

collect_ignore = ["figures_keras.py", "keras_models.py", "look_keras.py"]
