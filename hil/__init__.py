"""Hardware in the loop: rigs that run what we ship on a kernel of its own, and move its pins from outside."""
