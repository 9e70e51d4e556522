"""`graphprune tune` on every real model, judged by its task on data that tune never sees."""
