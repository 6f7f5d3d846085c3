"""The simulated exchange and the generated market."""
