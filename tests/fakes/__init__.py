"""Stand-ins for the two things that tests replace: the clock and a partner's receiver."""
