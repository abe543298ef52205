"""Real-time facial-expression analysis."""
