"""The stages of the analysis: find the faces, read them, and decide with what the next frames show."""
