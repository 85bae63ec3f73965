"""A company's domain and DNS: what to publish, whether it is there, and how to mend it."""
