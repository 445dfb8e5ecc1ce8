"""How keras.applications' models are built and run."""

SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
"""Sides of the smallest pictures that these models take."""
SIDE, SAMPLES, CLASSES = 64, 8, 10
DRAWS, MANY = 4, 30_000_000
"""A prediction is an expectation over draws: of models with fewer weights, several are averaged."""
