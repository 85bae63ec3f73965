"""What a reply means: a language model, a lexicon, and how sure they are."""
