"""What people did, what they have to do, and, later, what it led to."""
