"""What belongs to one handler: its entries of a delivery, the limits of its runs."""
