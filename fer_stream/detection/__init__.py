"""Find the faces in each frame and follow them: MTCNN's cascade, the scan schedule, and the tracker."""
