"""The demo pair: an image world, a tiny teacher and a tiny student, and the recipe that trains them."""
