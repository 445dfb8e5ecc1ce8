import tensorflow as tf
import tensorflow.contrib.layers as tcl

args = (False,)
settings = {'uniform': False, 'seed': 3}


def weights(shape, hps, flag, **kwargs):
    a = tcl.xavier_initializer(*args)
    b = tcl.xavier_initializer(**settings)
    c = tcl.xavier_initializer(**kwargs)
    d = tcl.xavier_initializer(uniform=flag)
    e = tcl.xavier_initializer(**{'uniform': True, 'seed': hps.seed})
    f = tcl.variance_scaling_initializer(hps.factor, hps.mode)
    g = tcl.variance_scaling_initializer(hps.factor * 2, 'FAN_OUT', seed=hps.seed)
    h = getattr(tcl, 'xavier_initializer')()
    i = tf.constant_initializer(hps.bias)
    j = tf.get_variable('j', shape, tf.float64, tcl.xavier_initializer(dtype=tf.float64))
    k = tf.Variable(tcl.xavier_initializer(dtype=tf.float64)(shape))
    l = tcl.xavier_initializer(dtype=hps.dtype)
    return a, b, c, d, e, f, g, h, i, j, k, l
