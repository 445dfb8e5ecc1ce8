# -*- coding: latin-1 -*-
# Réseau convolutif, d'après un cours de l'été 2017.
import tensorflow as tf

# Poids initialisés à la Glorot
W = tf.get_variable(u"poids_é", [3, 3, 1, 8], initializer=tf.contrib.layers.xavier_initializer_conv2d())
