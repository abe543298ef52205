"""Run a network: ONNX Runtime on the CPU, PyTorch on CUDA.

network.py         the interface of a loaded network
devices.py         the choice of the device
onnx_runtime.py    networks on the CPU
torch_cuda.py      networks on an NVIDIA GPU
threads.py         sharing the CPU's cores
"""
