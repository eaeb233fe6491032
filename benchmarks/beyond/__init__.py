"""Harder worlds and methods beyond the paper, in two steps: pilots of every idea, then the best on all cells."""
