import tensorflow as tf

class Net:
	def __init__(self):
		self.layers = []
		for i in range(3):
			self.layers.append(tf.layers.Dense(
				10,
				kernel_initializer=tf.contrib.layers.xavier_initializer(
					uniform=False,	# normal
					seed=i,
				),
			))
