"""The books: postings, balances and the feed of everything that was committed."""
