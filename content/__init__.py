"""What a company says: its library of mails and passages, and how they look."""
