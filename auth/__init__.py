"""Who is calling: OAuth2 clients, API keys, scopes, tokens and the secrets behind them."""
