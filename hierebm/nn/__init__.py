"""Networks: autograd modules, hand-written kernels, flat parameters, the thread policy."""
