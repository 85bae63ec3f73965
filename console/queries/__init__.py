"""What pages show, read in a session of one company."""
