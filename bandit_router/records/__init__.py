"""Plain data: arms, outcomes, decisions, bookings. Imports only the ground."""
