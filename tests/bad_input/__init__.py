"""What a user gets wrong, area by area: each case is a sentence, an exit code, no traceback, and nothing lost."""
