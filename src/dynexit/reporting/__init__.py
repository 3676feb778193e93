"""What people look at: coloured tokens, tables, plots."""
