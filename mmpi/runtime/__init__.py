"""IO around the pure core: loops, sockets, mapped files."""
