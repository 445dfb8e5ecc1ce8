from tensorflow.contrib.framework.python.ops import add_arg_scope
from tensorflow.contrib.layers.python.layers import initializers
from tensorflow.contrib.layers.python.layers.initializers import (
    variance_scaling_initializer,  # He
    xavier_initializer,
)
from tensorflow.python.ops import init_ops, nn


@add_arg_scope
def masked_convolution(
    inputs,
    num_outputs,
    kernel_size,
    activation_fn=nn.relu,
    weights_initializer=initializers.xavier_initializer(),
    biases_initializer=init_ops.zeros_initializer(),
):
    core = variance_scaling_initializer(2.0, 'FAN_OUT')
    side = xavier_initializer()
    return core, side, init_ops.RandomNormal(0.0, 0.05)
