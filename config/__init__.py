"""What the owner may choose: one TOML file, read once, refused with the remedy when it is wrong."""
