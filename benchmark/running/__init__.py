"""What surrounds runs."""
