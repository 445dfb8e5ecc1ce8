import numpy as np
import tensorflow as tf

np.random.seed(0)
tf.set_random_seed(0)

def xavier_init(fan_in, fan_out, constant=1):
    """ Xavier initialization of network weights"""
    # https://stackoverflow.com/questions/33640581/how-to-do-xavier-initialization-on-tensorflow
    low = -constant*np.sqrt(6.0/(fan_in + fan_out))
    high = constant*np.sqrt(6.0/(fan_in + fan_out))
    return tf.random_uniform((fan_in, fan_out),
                             minval=low, maxval=high,
                             dtype=tf.float32)

def glorot(shape):
    limit = np.sqrt(6.0 / (shape[0] + shape[1]))
    return tf.random_uniform(shape, minval=-limit, maxval=limit, dtype=tf.float32)

class VariationalAutoencoder(object):
    def _initialize_weights(self, n_hidden_recog_1, n_input, n_z):
        all_weights = dict()
        all_weights['weights_recog'] = {
            'h1': tf.Variable(xavier_init(n_input, n_hidden_recog_1)),
            'out_mean': tf.Variable(glorot([n_hidden_recog_1, n_z])),
            'out_log_sigma': tf.get_variable('sigma', [n_hidden_recog_1, n_z],
                initializer=tf.contrib.layers.variance_scaling_initializer(
                    factor=1.0, mode='FAN_IN'))}
        return all_weights

filters = glorot([5, 5, 1, 32])
