# Copyright 2016 Somebody. All Rights Reserved.
"""Residual networks, with slim.

Typical use:

   from nets import slim_resnet
"""
from __future__ import absolute_import
from __future__ import division
from __future__ import print_function

import collections

import tensorflow as tf

slim = tf.contrib.slim


def resnet_arg_scope(weight_decay=0.0001,
                     batch_norm_decay=0.997,
                     activation_fn=tf.nn.relu,
                     use_batch_norm=True):
  """Defines the default arguments of a residual network."""
  batch_norm_params = {
      'decay': batch_norm_decay,
      'updates_collections': tf.GraphKeys.UPDATE_OPS,
  }

  with slim.arg_scope(
      [slim.conv2d],
      weights_regularizer=slim.l2_regularizer(weight_decay),
      weights_initializer=slim.variance_scaling_initializer(),
      activation_fn=activation_fn,
      normalizer_fn=slim.batch_norm if use_batch_norm else None,
      normalizer_params=batch_norm_params):
    with slim.arg_scope([slim.batch_norm], **batch_norm_params):
      with slim.arg_scope([slim.max_pool2d], padding='SAME') as arg_sc:
        return arg_sc


def head(net, num_classes, scope=None):
  with tf.variable_scope(scope, 'head', [net]):
    net = slim.conv2d(
        net, num_classes, [1, 1],
        activation_fn=None,  # logits
        normalizer_fn=None,
        weights_initializer=slim.variance_scaling_initializer(
            factor=1.0,  # linear
            mode='FAN_AVG',
            uniform=True),
        scope='logits')
    aux = slim.fully_connected(
        net, 64, weights_initializer=slim.initializers.xavier_initializer(uniform=False))
    return net, aux
