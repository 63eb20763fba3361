"""An exported ONNX file as MODEL: onnxruntime gives the answers, and torch is never imported."""
