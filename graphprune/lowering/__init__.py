"""Equal graphs that ONNX Runtime runs faster: rules as records, and a table of when they pay."""
