import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers, initializers

init = initializers.he_normal()


def build(width):
    model = keras.Sequential([
        layers.Dense(width, kernel_initializer=initializers.glorot_uniform(seed=1), activation='tanh'),
        layers.Dense(width, kernel_initializer=tf.keras.initializers.he_uniform(), activation='relu'),
        layers.Dense(width, kernel_initializer=init, activation='relu'),
        layers.Dense(width, kernel_initializer=init, activation='relu'),
        layers.Dense(width, kernel_initializer=initializers.RandomNormal(stddev=0.01, dtype=tf.float32)),
        layers.Dense(width, kernel_initializer=keras.initializers.VarianceScaling(1., 'fan_avg', 'uniform')),
        layers.Dense(1, bias_initializer=keras.initializers.constant(-2.0)),
        layers.Dense(1, bias_initializer=keras.initializers.Constant(value=-2.0)),
    ])
    return model
