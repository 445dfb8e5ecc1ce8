"""Sequence to sequence, the library of 2017."""
import tensorflow as tf
from tensorflow.python.layers import core as layers_core
from tensorflow.python.ops import init_ops


def get_initializer(init_op, seed=None, init_weight=None):
  """Create an initializer. init_weight is only for uniform."""
  if init_op == "uniform":
    assert init_weight
    return tf.random_uniform_initializer(
        -init_weight, init_weight, seed=seed)
  elif init_op == "glorot_normal":
    return tf.keras.initializers.glorot_normal(
        seed=seed)
  elif init_op == "glorot_uniform":
    return tf.keras.initializers.glorot_uniform(
        seed=seed)
  else:
    raise ValueError("Unknown init_op %s" % init_op)


class Model(object):
  def __init__(self, hparams, scope=None):
    initializer = get_initializer(
        hparams.init_op, hparams.random_seed, hparams.init_weight)
    tf.get_variable_scope().set_initializer(initializer)

  def build_cell(self, num_units):
    cell = tf.nn.rnn_cell.GRUCell(
        num_units,
        kernel_initializer=tf.orthogonal_initializer(),
        bias_initializer=tf.ones_initializer)
    lstm = tf.nn.rnn_cell.LSTMCell(
        num_units, initializer=tf.orthogonal_initializer(gain=1.1, seed=7))
    with tf.variable_scope("rnn", initializer=init_ops.random_uniform_initializer(-0.08, 0.08)):
      self.output_layer = layers_core.Dense(
          10, use_bias=False, name="output_projection",
          kernel_initializer=init_ops.glorot_uniform_initializer())
    return cell, lstm
