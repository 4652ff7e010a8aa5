"""Trained nets: read, carried to other programs and back, and pictures of digits for them."""
