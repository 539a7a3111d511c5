"""The portal: pages for people, rendered here, asking the same use cases as the API does for the site of their session."""
