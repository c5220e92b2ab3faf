"""How loss and metrics of several runs fall with the compute they took."""
