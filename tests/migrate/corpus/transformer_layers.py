# Copyright 2018 The Somebody Authors. All Rights Reserved.
"""Layers of a transformer."""

from __future__ import absolute_import
from __future__ import division
from __future__ import print_function

import tensorflow as tf  # pylint: disable=g-bad-import-order


class Transformer(object):
  """Transformer model for sequence to sequence data."""

  def __call__(self, inputs, targets=None):
    # Variance scaling is used here because it seems to work in many problems.
    # Other reasonable initializers may also work just as well.
    initializer = tf.variance_scaling_initializer(
        self.params["initializer_gain"], mode="fan_avg", distribution="uniform")
    with tf.variable_scope("Transformer", initializer=initializer):
      attention_bias = model_utils.get_padding_bias(inputs)
    return attention_bias

  def ffn(self):
    """Returns the feed-forward layers."""
    return (
        tf.layers.Dense(self.filter_size, activation=tf.nn.relu, use_bias=True,
                        kernel_initializer=tf.variance_scaling_initializer(
                            scale=2.0, distribution="normal")),
        tf.layers.Dense(self.hidden_size, use_bias=True,
                        kernel_initializer=tf.variance_scaling_initializer(
                            scale=1.0, mode="fan_avg", distribution="uniform")),
        tf.layers.Dense(self.hidden_size,
                        kernel_initializer=tf.variance_scaling_initializer(
                            distribution="untruncated_normal")),
    )
