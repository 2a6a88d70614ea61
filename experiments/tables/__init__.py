"""Tables of papers and claims, made of the kept results of the experiments."""
