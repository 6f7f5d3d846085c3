"""A practice venue that speaks Hyperliquid's wire protocol on loopback.

Invariant: it reads the venue's documents with its own code, so that it checks the product's adapter (mmpi.venues, never
imported here) instead of repeating it.
"""
