"""How the tables of the audit came to be. Rule: a migration that was released is never edited."""
