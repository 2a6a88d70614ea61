"""From variants, trials and replicates to groups of runs, and their execution."""
