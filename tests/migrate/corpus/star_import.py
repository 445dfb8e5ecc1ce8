from tensorflow.contrib.layers import *
import tensorflow as tf


def mlp(x):
    x = fully_connected(x, 128, weights_initializer=xavier_initializer())
    x = fully_connected(x, 128, activation_fn=tf.nn.tanh,
                        weights_initializer=xavier_initializer(uniform=False, seed=42))
    return fully_connected(x, 10, activation_fn=None,
                           weights_initializer=variance_scaling_initializer(1.0, 'FAN_OUT', True))
