"""From arms, draws and replicates to groups of runs, and their execution."""
