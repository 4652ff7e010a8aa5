"""Many trainings at once: what is trained side by side, recorded, and resumed."""
