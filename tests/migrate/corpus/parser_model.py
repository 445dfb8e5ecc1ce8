#!/usr/bin/env python3
"""A feed-forward dependency parser, in the style of a course assignment."""
import tensorflow as tf

from utils.general_utils import Progbar


def xavier_weight_init():
    """Returns function that creates random tensor.

    The specified function will take in a shape (tuple or 1-d array) and
    returns a random tensor of the specified shape drawn from the
    Xavier initialization distribution.
    """
    def _xavier_initializer(shape, **kwargs):
        """Defines an initializer for the Xavier distribution."""
        epsilon = tf.sqrt(6.0) / tf.sqrt(tf.cast(shape[0] + shape[1], tf.float32))
        out = tf.random_uniform(shape=shape, minval=-epsilon, maxval=epsilon)
        return out
    return _xavier_initializer


class ParserModel(object):

    def add_prediction_op(self):
        x = self.add_embedding()
        xavier = tf.contrib.layers.xavier_initializer()
        with tf.variable_scope("transformation"):
            W = tf.get_variable("W", [self.config.n_features * self.config.embed_size,
                                      self.config.hidden_size], initializer=xavier)
            b1 = tf.get_variable("b1", [self.config.hidden_size],
                                 initializer=tf.constant_initializer(0.0))
            U = tf.get_variable("U", [self.config.hidden_size, self.config.n_classes],
                                initializer=xavier)  # output layer
            b2 = tf.get_variable("b2", [self.config.n_classes], initializer=tf.zeros_initializer())
            h = tf.nn.relu(tf.matmul(x, W) + b1)
            h_drop = tf.nn.dropout(h, keep_prob=1 - self.dropout_placeholder)
            pred = tf.matmul(h_drop, U) + b2
        return pred

    def add_embedding(self):
        with tf.variable_scope("embed"):
            table = tf.get_variable(
                "table",
                shape=[self.config.vocab, self.config.embed_size],
                initializer=tf.random_uniform_initializer(-0.05, 0.05, seed=self.config.seed))
        return tf.nn.embedding_lookup(table, self.input_placeholder)
