"""HTTP and WebSocket edges: parse, call one use case, shape."""
