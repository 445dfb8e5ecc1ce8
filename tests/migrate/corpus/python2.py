import tensorflow as tf

W = tf.get_variable("W", [784, 10], initializer=tf.contrib.layers.xavier_initializer())
print "weights:", W
