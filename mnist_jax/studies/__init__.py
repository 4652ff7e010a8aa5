"""What is asked of runs: tuning, statistics, and what the notebooks published."""
