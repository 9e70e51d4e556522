"""Random graphs whose removable Units are known by construction, and campaigns over them."""
