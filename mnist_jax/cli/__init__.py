"""The command: its arguments, its terminal, and how it starts and ends."""
