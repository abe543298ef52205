"""Draw the overlay and the charts, and hide faces."""
