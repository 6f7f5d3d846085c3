"""The box itself: its latch and its identity."""
