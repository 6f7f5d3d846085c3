"""Rigs: whole machines on which scenarios are played: power, console, network, pins, storage and clock."""
