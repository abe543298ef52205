"""Run a network: ONNX Runtime on the CPU, PyTorch on CUDA; how the CPU's cores are shared."""
