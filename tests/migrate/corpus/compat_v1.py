import tensorflow.compat.v1 as tf  # the old API

tf.disable_v2_behavior()

hidden = tf.layers.Dense(32, kernel_initializer=tf.initializers.he_normal(), activation=tf.nn.relu)
logits = tf.layers.Dense(10, kernel_initializer=tf.glorot_normal_initializer(seed=3))
scaled = tf.layers.Dense(10, kernel_initializer=tf.keras.initializers.glorot_uniform())
noise = tf.get_variable("noise", [3, 3], initializer=tf.random_normal_initializer())
