"""Contract suites: one test per numbered guarantee of a port, run over every adapter."""
