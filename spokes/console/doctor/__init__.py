"""The checks of `doctor`: each module examines one part of a deployment and returns findings."""
