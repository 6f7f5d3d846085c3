"""Hyperliquid: messages, signing and a sans-IO session, without the vendor's SDK.

Invariant: nothing here reads a clock, a socket or a file. It must not know the engine.
"""
