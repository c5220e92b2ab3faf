"""How good it is: metrics on known ground truth."""
