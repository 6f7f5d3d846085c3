"""Practice venues: servers that speak a venue's real wire protocol in front of the simulated exchange.

Invariant: nothing here imports mmpi.venues; two readings of a venue's documents check each other.
"""
