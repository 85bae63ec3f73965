"""Where people look and decide: pages, API, sign-in."""
