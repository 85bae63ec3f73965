"""The pages, a module for each; what they show comes from `console.queries`."""
