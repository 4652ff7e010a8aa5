"""What `speed.py` measures, one file per kind of measurement, and the tables that show it."""
