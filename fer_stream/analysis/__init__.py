"""The stages of the analysis: find the faces, read them, and decide what to show."""
