"""Find the faces in each frame and follow them: MTCNN's cascade, the tracker, and when to scan."""
