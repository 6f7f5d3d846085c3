"""Signals: one file for each number that follows the market.

Invariant: a step costs O(1), whatever came before. A signal must not know books, positions or quoters.
"""
