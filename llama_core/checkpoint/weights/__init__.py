"""Weights of files as they are in memory: in the number format of the model, rounded, or as small as the file has
them."""
