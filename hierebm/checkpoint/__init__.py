"""Files that hold agents: JSON, tensors and arrays, read without running code."""
