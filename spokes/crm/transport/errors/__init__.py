"""What a response of HubSpot that refuses a call means: one of our errors, with what the caller has to know."""
