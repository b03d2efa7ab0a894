"""What each kind of disruption does to the stack."""
