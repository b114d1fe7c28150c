"""A synthetic AI factory: workloads drive GPUs, GPUs make power and heat, coolant carries the heat away."""
