"""What reports are set with: numbers, elements, tables, figures, a page, Markdown. It knows nothing of what is reported."""
