"""What goes over the wire, as pure functions: frames, the client protocol's JSON, its codes."""
