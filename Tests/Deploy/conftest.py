import pathlib
import sys

# The cluster's own helpers: requests, tokens, streams, and servers of a test's own.
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "Cluster"))
