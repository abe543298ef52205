"""Read the expression of each face: weights, the network's input, the classifier, smoothing."""
