"""What a study found, said by rules from its tables: badges, claims, methods text, and the page that shows them."""
