"""Venues' protocols, without IO."""
