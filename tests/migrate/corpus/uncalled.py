import functools
from functools import partial

import tensorflow as tf
from tensorflow.contrib.layers import xavier_initializer as xi, variance_scaling_initializer

he = variance_scaling_initializer
normal_xavier = partial(xi, uniform=False)
small = functools.partial(tf.truncated_normal_initializer, stddev=1e-3)
dense = partial(tf.layers.dense, kernel_initializer=tf.glorot_uniform_initializer)


def linear(x, units, init_fn=xi, bias=tf.zeros_initializer):
    w = tf.get_variable("w", [int(x.shape[-1]), units], initializer=init_fn())
    b = tf.get_variable("b", [units], initializer=bias)
    return tf.matmul(x, w) + b


def conv(x, filters):
    return tf.layers.conv2d(x, filters, 3, kernel_initializer=he(), use_bias=False)


def deep(x, inits={"xavier": xi, "noise": tf.random_normal_initializer}):
    return linear(x, 3, init_fn=inits["xavier"])
