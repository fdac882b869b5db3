"""Generators of the four tasks. Everything follows from a seed."""
