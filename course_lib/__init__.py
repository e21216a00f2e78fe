"""The library behind "Deep Learning by Experiment": one module per chapter, and what they share.

Importing the package imports nothing else; ask for the module you need, e.g.
`from course_lib import data, train`.
"""

__version__ = "0.1.0"
