"""`make report`: one page that says what was asked, found, not found, and how to get it again."""
