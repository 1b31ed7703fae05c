"""How fast a changed manifest takes effect, and what translating many routes costs."""
