"""The product under a seeded scheduler, in virtual time, on a network that loses, delays and repeats, with processes that die."""
