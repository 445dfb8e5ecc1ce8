"""Runs under both majors."""
try:
    import tensorflow.compat.v1 as tf
    tf.disable_v2_behavior()
except ImportError:
    import tensorflow as tf

import numpy as np


def dense(x, units, name):
    with tf.variable_scope(name):
        w = tf.get_variable('w', [x.shape[-1], units], initializer=tf.glorot_uniform_initializer())
        n = tf.get_variable('n', [x.shape[-1], units], initializer=tf.glorot_normal_initializer())
        b = tf.get_variable('b', [units], initializer=tf.zeros_initializer())
    return tf.matmul(x, w) + b
