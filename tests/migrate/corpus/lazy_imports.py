import numpy as np


def build_tensorflow(features):
    # TensorFlow is slow to load.
    import tensorflow as tf
    from tensorflow.contrib.layers import xavier_initializer  # only here

    return tf.get_variable("w", [features, 1], initializer=xavier_initializer())


def build_slim(features):
    import tensorflow.contrib.slim as slim

    return slim.xavier_initializer(seed=features)
