"""A world of 96-pixel images in four families (chart, text, sttext, know) with questions whose answers are known."""
