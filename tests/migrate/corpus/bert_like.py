# coding=utf-8
"""The main model and related functions."""

import collections
import six
import tensorflow as tf


class Config(object):
  def __init__(self, hidden_size=768, initializer_range=0.02):
    self.hidden_size = hidden_size
    self.initializer_range = initializer_range


def create_initializer(initializer_range=0.02):
  """Creates a `truncated_normal_initializer` with the given range."""
  return tf.truncated_normal_initializer(stddev=initializer_range)


def pooler(first_token_tensor, config):
  return tf.layers.dense(
      first_token_tensor,
      config.hidden_size,
      activation=tf.tanh,
      kernel_initializer=create_initializer(config.initializer_range))


def logits(output_layer, num_labels, hidden_size):
  output_weights = tf.get_variable(
      "output_weights", [num_labels, hidden_size],
      initializer=tf.truncated_normal_initializer(stddev=0.02))
  output_bias = tf.get_variable(
      "output_bias", [num_labels], initializer=tf.zeros_initializer())
  pretrained = tf.get_variable(
      "table", [num_labels, hidden_size],
      initializer=tf.constant_initializer(load_table()))
  return tf.nn.bias_add(tf.matmul(output_layer, output_weights, transpose_b=True), output_bias)
