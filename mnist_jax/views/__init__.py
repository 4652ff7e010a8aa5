"""What a person looks at: figures, tables, report, demo page, event files."""
