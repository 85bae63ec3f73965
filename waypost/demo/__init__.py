"""A company, its people, and a small world around it, all on the loopback address."""
