"""What an architecture costs: measured, looked up, or counted."""
