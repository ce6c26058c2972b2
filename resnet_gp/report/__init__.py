"""Results with checks, judged together, and the page that shows them: what both labs write with."""
