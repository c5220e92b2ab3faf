"""What is learned: the transformer, its experts, the image codec, and how their weights are read."""
