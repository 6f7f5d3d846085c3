"""mmpi: an appliance that quotes both sides of crypto markets and can be trusted to stop."""
