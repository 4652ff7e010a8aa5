"""Trained nets: read from runs, exchanged with other programs, and given pictures of digits."""
