"""Today's Keras: nothing to convert, one thing to point out."""
import keras
from keras import layers

model = keras.Sequential(
    [
        layers.Dense(64, activation="relu", kernel_initializer="he_normal"),
        layers.Dense(64, activation="tanh", kernel_initializer=keras.initializers.GlorotUniform()),
        layers.Dense(64, activation="relu", kernel_initializer=keras.initializers.GlorotNormal(seed=1)),
        layers.Dense(1, bias_initializer=keras.initializers.Zeros()),
    ]
)
