"""Setup: what a person put into the folder mmpi-setup/ of the card, checked as a whole and taken over as a whole.

Invariant: `settings` in the data folder is one whole generation at every moment, and a secret is stored, encrypted and
on the disk, before anything happens to the file that it came in. It must not know how the daemons use any of it.
"""
