import tensorflow as tf
import tensorflow.contrib as tc
import tensorflow.contrib.layers as layers


class Actor(object):
    def __init__(self, nb_actions, name='actor', layer_norm=True):
        self.name = name
        self.nb_actions = nb_actions
        self.layer_norm = layer_norm
        self.w_init = layers.xavier_initializer()

    def __call__(self, obs, reuse=False):
        with tf.variable_scope(self.name) as scope:
            if reuse:
                scope.reuse_variables()

            x = obs
            x = tf.layers.dense(x, 64, kernel_initializer=self.w_init)
            if self.layer_norm:
                x = tc.layers.layer_norm(x, center=True, scale=True)
            x = tf.nn.relu(x)

            x = tf.layers.dense(x, 64, activation=tf.nn.relu, kernel_initializer=self.w_init)

            x = tf.layers.dense(x, self.nb_actions, kernel_initializer=tf.random_uniform_initializer(minval=-3e-3, maxval=3e-3))
            x = tf.nn.tanh(x)
        return x


class Critic(object):
    def __call__(self, obs, action):
        x = tf.layers.dense(
            obs, 64,
            activation='relu',
            kernel_initializer='glorot_uniform',
        )
        x = tf.layers.dense(x, 1, kernel_initializer=tf.random_uniform_initializer(maxval=3e-3))
        return x
