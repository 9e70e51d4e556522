"""ONNX Runtime: run models in memory, make inputs for them, compare results, measure latency."""
