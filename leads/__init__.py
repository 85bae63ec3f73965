"""Who we may write to: people that recipients pass us on to, their consent, their clusters."""
