"""The SQL of the webhooks: functions over a connection that never begin or commit."""
