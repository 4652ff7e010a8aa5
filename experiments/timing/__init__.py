"""What `speed.py` measures, each in a file of its own, and the tables that show it."""
