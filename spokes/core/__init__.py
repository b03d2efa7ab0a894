"""What every process agrees on. Rule: it opens nothing."""
