"""The HTTP surface: REST, SSE and WebSocket over the books, the deliveries and the credentials."""
