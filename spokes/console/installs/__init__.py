"""Installs of the app by OAuth: from the link that a customer opens to the stored tokens of their portal."""
