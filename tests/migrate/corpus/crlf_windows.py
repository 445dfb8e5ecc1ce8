# -*- coding: utf-8 -*-
# Windows, Visual Studio, 2018.
import tensorflow as tf
from tensorflow.contrib.layers import xavier_initializer	# Glorot & Bengio

w = tf.get_variable(
    "w", [3, 4],
    initializer=xavier_initializer(
        uniform=True,  # größer
        seed=1))
b = tf.get_variable("b", [4], initializer=tf.constant_initializer(0.1))
