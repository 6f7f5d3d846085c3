"""Recorded data and what is learnt from it; its packages (numpy, pyarrow) stay out of the daemons."""
