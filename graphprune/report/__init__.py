"""Renderers: a Report, or any other result, as terminal text, JSON or HTML. They print nothing themselves."""
