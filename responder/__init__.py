"""Reads replies, decides what to do about them, and drafts answers that a person approves."""
