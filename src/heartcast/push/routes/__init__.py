"""Ways out: each file brings pushes to users over one kind of connection."""
