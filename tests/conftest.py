"""Where this file lies, what tests of several folders share is found: `report_browser` and `report_pages` serve those of every report."""
