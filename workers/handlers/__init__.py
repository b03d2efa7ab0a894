"""What belongs to one of several handlers: its entries of a delivery."""
