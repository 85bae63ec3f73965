"""The vocabulary of mail: addresses, envelopes, tokens, SMTP replies, errors. Pure."""
