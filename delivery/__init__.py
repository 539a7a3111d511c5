"""Webhooks: endpoints, the delivery log and replay, and the work that turns the feed into signed requests."""
