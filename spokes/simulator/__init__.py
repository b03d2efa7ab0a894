"""A HubSpot on your own machine: it sends what HubSpot sends and answers what HubSpot answers.

Rule: it plays the other side, so it shares no code with the receiver that checks signatures or the client that calls.
"""
