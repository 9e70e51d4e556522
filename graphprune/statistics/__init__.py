"""Sufficient statistics of activations, streamed through ONNX Runtime."""
