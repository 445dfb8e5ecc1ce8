import numpy as np
import tensorflow as tf


def uniform(stdev, size):
    return np.random.uniform(low=-stdev * np.sqrt(3), high=stdev * np.sqrt(3), size=size).astype('float32')


def xavier_filters(shape, dtype=None, partition_info=None):
    fan_in = shape[0]
    fan_out = shape[1]
    scale = fan_in + fan_out
    limit = np.sqrt(6. / scale)
    return tf.random_uniform(shape, -limit, limit)


def block(x, dim):
    x = tf.layers.conv2d(x, dim, 3, padding='same', kernel_initializer=xavier_filters)
    x = tf.layers.conv2d(x, dim, 3, padding='same', activation=tf.nn.leaky_relu,
                         kernel_initializer=tf.initializers.he_uniform(seed=3))
    x = tf.layers.conv2d(x, dim, 3, padding='same',
                         kernel_initializer=tf.uniform_unit_scaling_initializer(factor=1.43))
    return x
