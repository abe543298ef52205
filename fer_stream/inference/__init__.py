"""Run a network: ONNX Runtime on the CPU, PyTorch on CUDA.

network.py         the interface that both share
devices.py         which device a run uses
onnx_runtime.py    networks on the CPU
torch_cuda.py      networks on an NVIDIA GPU
threads.py         how the CPU's cores are shared
"""
