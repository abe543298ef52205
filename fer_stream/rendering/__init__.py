"""Draw: the overlay on the frames, charts, and what hides faces."""
