"""Find missed and lost events: report gaps, prove them, and compare HubSpot's records with the audit."""
