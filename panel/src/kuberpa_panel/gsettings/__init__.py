"""GSettings: everything the panel knows, as one tree that a viewer may see a part of.

project(world, sight)        the tree, pure: sections.SECTIONS say what is in it
kuberpa.treepath             parts of it, by the steps of a path
patches.difference(old, new) what changed, as a JSON Patch
queries.select(tree, text)   nodes by JSONPath
"""

from kuberpa_panel.gsettings.projection import Sight, World, project

__all__ = ["Sight", "World", "project"]
