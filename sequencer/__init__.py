"""Follows up over days: plans of mails, who is where in them, and each step exactly once."""
