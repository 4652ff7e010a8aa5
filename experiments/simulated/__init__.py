"""What `simulations.py` and the tests simulate: worlds whose truth is known, and what the statistics say about them."""
