"""Small models trained on the facts of a study, so that every experiment can run without a download."""
