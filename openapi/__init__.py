"""The API described: documents built from the gateway's route table."""
