"""Understands what arrived: replies, forwards, bounces, complaints, absences, wishes to stop."""
