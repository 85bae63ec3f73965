"""The commands, a module for each noun. They are imported when they are called."""
